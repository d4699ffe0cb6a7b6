// SPDX-License-Identifier: Apache-2.0
// The endpoint for the tests in JavaScript: MILLRACE_ENDPOINT, or programs of our own (harness.py).
import { spawn, spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import path from "node:path";
import { fileURLToPath } from "node:url";

const folder = path.dirname(fileURLToPath(import.meta.url));
const python = "/usr/bin/python3";

export const account = "000000000000";
export const role = `arn:aws:iam::${account}:role/test`;
export const unique = (prefix) => `${prefix}-${randomUUID().slice(0, 10)}`;
export const queueArn = (name) => `arn:aws:sqs:us-east-1:${account}:${name}`;
export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** Start what is needed: {endpoint, stop}. */
export async function start() {
  if (process.env.MILLRACE_ENDPOINT) {
    return { endpoint: process.env.MILLRACE_ENDPOINT, stop: async () => {} };
  }
  const child = spawn(python, ["-c", "import harness; harness.serve()"], {
    cwd: folder,
    stdio: ["pipe", "pipe", "inherit"],
  });
  const ended = once(child, "exit");
  const line = await Promise.race([once(child.stdout, "data"), ended]);
  if (child.exitCode !== null) throw new Error("the programs under test did not start");
  return {
    endpoint: String(line[0]).trim(),
    stop: async () => {
      child.stdin.end();
      await ended;
    },
  };
}

/** Options for any SDK client; retries are off, so that every answer is seen. */
export const options = (endpoint) => ({
  endpoint,
  region: "us-east-1",
  credentials: { accessKeyId: "test", secretAccessKey: "test" },
  maxAttempts: 1,
});

/** A zip of {name: text}, made by the harness that the Python tests use. */
export function zipOf(files) {
  const code =
    "import json, sys, harness; sys.stdout.buffer.write(harness.zip_of(json.load(sys.stdin)))";
  const made = spawnSync(python, ["-c", code], {
    cwd: folder,
    input: JSON.stringify(files),
    maxBuffer: 64 << 20,
  });
  if (made.status !== 0) throw new Error(String(made.stderr));
  return made.stdout;
}

/** Poll until `condition()` gives something true. */
export async function until(condition, ms, what) {
  const deadline = Date.now() + ms;
  for (;;) {
    const result = await condition();
    if (result) return result;
    if (Date.now() > deadline) throw new Error(`timed out: ${what}`);
    await sleep(50);
  }
}
