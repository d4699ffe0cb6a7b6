// SPDX-License-Identifier: Apache-2.0
// Lambda with @aws-sdk/client-lambda: deploy, wait, invoke, update, feed from a queue, delete.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import * as sdk from "@aws-sdk/client-lambda";
import { CreateQueueCommand, SendMessageCommand, SQSClient } from "@aws-sdk/client-sqs";
import { GetQueueAttributesCommand } from "@aws-sdk/client-sqs";
import { options, queueArn, role, start, unique, until, zipOf } from "./millrace.mjs";

let programs;
let lambda;
let sqs;

before(async () => {
  programs = await start();
  lambda = new sdk.LambdaClient(options(programs.endpoint));
  sqs = new SQSClient(options(programs.endpoint));
});
after(async () => {
  lambda?.destroy();
  sqs?.destroy();
  await programs?.stop();
});

const call = (name, input) => lambda.send(new sdk[`${name}Command`](input));

async function deploy(source, more = {}) {
  const FunctionName = unique("f");
  await call("CreateFunction", {
    FunctionName,
    Runtime: "nodejs20.x",
    Handler: "index.handler",
    Role: role,
    Code: { ZipFile: zipOf({ "index.js": source }) },
    ...more,
  });
  await sdk.waitUntilFunctionActiveV2({ client: lambda, maxWaitTime: 30 }, { FunctionName });
  return FunctionName;
}

async function invoke(FunctionName, event, more = {}) {
  const answer = await call("Invoke", { FunctionName, Payload: JSON.stringify(event), ...more });
  return { answer, result: JSON.parse(answer.Payload?.transformToString() || "null") };
}

const echo = `
exports.handler = async (event, context) => {
  console.log("printed by the function");
  if (event.raise) throw new TypeError(event.raise);
  return { event, id: context.awsRequestId, greeting: process.env.GREETING };
};`;

test("deploy, invoke with the log, update, delete", async () => {
  const name = await deploy(echo);
  const { answer, result } = await invoke(name, { text: "ü" }, { LogType: "Tail" });
  assert.equal(answer.StatusCode, 200);
  assert.equal(answer.FunctionError, undefined);
  assert.deepEqual(result.event, { text: "ü" });
  const log = Buffer.from(answer.LogResult, "base64").toString();
  assert.match(log, /START RequestId: [0-9a-f-]{36} Version: \$LATEST/);
  assert.match(log, /printed by the function/);
  assert.match(log, /REPORT RequestId: .*Billed Duration: \d+ ms\tMemory Size: 128 MB/);

  await call("UpdateFunctionConfiguration", {
    FunctionName: name,
    Environment: { Variables: { GREETING: "hi" } },
  });
  await sdk.waitUntilFunctionUpdatedV2({ client: lambda, maxWaitTime: 30 }, { FunctionName: name });
  assert.equal((await invoke(name, {})).result.greeting, "hi");

  await call("UpdateFunctionCode", {
    FunctionName: name,
    ZipFile: zipOf({ "index.js": "exports.handler = async () => 'second';" }),
  });
  await sdk.waitUntilFunctionUpdatedV2({ client: lambda, maxWaitTime: 30 }, { FunctionName: name });
  assert.equal((await invoke(name, {})).result, "second");

  const got = await call("GetFunction", { FunctionName: name });
  const zip = Buffer.from(await (await fetch(got.Code.Location)).arrayBuffer());
  assert.equal(zip.length, got.Configuration.CodeSize);
  await call("DeleteFunction", { FunctionName: name });
  await assert.rejects(call("GetFunction", { FunctionName: name }), sdk.ResourceNotFoundException);
});

test("errors of the function are answers", async () => {
  const name = await deploy(echo);
  const { answer, result } = await invoke(name, { raise: "on purpose" });
  assert.equal(answer.FunctionError, "Unhandled");
  assert.equal(result.errorType, "TypeError");
  assert.equal(result.errorMessage, "on purpose");
});

test("a timeout kills the function", async () => {
  const name = await deploy("exports.handler = () => new Promise(() => setInterval(() => {}, 1e6));", {
    Timeout: 1,
  });
  const { answer, result } = await invoke(name, {});
  assert.equal(answer.FunctionError, "Unhandled");
  assert.match(result.errorMessage, /Task timed out after 1\.00 seconds/);
});

test("event and dry run", async () => {
  const name = await deploy(echo);
  assert.equal((await invoke(name, {}, { InvocationType: "DryRun" })).answer.StatusCode, 204);
  assert.equal((await invoke(name, {}, { InvocationType: "Event" })).answer.StatusCode, 202);
});

test("a queue feeds the function", async () => {
  const queue = unique("q");
  const { QueueUrl } = await sqs.send(new CreateQueueCommand({ QueueName: queue }));
  const name = await deploy("exports.handler = async (e) => console.log(e.Records[0].body);");
  const made = await call("CreateEventSourceMapping", {
    EventSourceArn: queueArn(queue),
    FunctionName: name,
    BatchSize: 1,
  });
  assert.equal(made.State, "Creating");
  for (let i = 0; i < 5; i++) {
    await sqs.send(new SendMessageCommand({ QueueUrl, MessageBody: `message ${i}` }));
  }
  await until(
    async () => {
      const { Attributes } = await sqs.send(
        new GetQueueAttributesCommand({ QueueUrl, AttributeNames: ["All"] }),
      );
      return (
        Attributes.ApproximateNumberOfMessages === "0" &&
        Attributes.ApproximateNumberOfMessagesNotVisible === "0"
      );
    },
    30000,
    "the queue is not empty",
  );
  const listed = await call("ListEventSourceMappings", { FunctionName: name });
  assert.deepEqual(listed.EventSourceMappings.map((m) => m.UUID), [made.UUID]);
  assert.ok(listed.EventSourceMappings[0].LastModified instanceof Date);
  assert.equal((await call("DeleteEventSourceMapping", { UUID: made.UUID })).State, "Deleting");
});

test("errors are the modeled ones", async () => {
  const name = await deploy(echo);
  await assert.rejects(call("Invoke", { FunctionName: "nope" }), sdk.ResourceNotFoundException);
  await assert.rejects(
    call("Invoke", { FunctionName: name, Payload: "{" }),
    sdk.InvalidRequestContentException,
  );
  await assert.rejects(
    call("UpdateFunctionConfiguration", { FunctionName: name, RevisionId: "old" }),
    sdk.PreconditionFailedException,
  );
  await assert.rejects(
    call("CreateFunction", {
      FunctionName: name,
      Runtime: "cobol",
      Handler: "a.b",
      Role: role,
      Code: { ZipFile: Buffer.from("no zip") },
    }),
    sdk.InvalidParameterValueException,
  );
  await assert.rejects(
    call("PublishVersion", { FunctionName: name }),
    (error) => error.name === "NotImplementedException" && /PublishVersion/.test(error.message),
  );
});
