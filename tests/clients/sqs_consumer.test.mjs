// SPDX-License-Identifier: Apache-2.0
// sqs-producer and sqs-consumer, as a service of many Node.js shops: batches, failures, heartbeats,
// a stop in the middle. Requests go to the queue's own URL, which is how sqs-consumer uses the SDK.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import * as sdk from "@aws-sdk/client-sqs";
import { Consumer } from "sqs-consumer";
import { Producer } from "sqs-producer";
import { options, sleep, start, unique, until } from "./millrace.mjs";

let programs;
let sqs;

before(async () => {
  programs = await start();
  sqs = new sdk.SQSClient(options(programs.endpoint));
});
after(async () => {
  sqs?.destroy();
  await programs?.stop();
});

const send = (name, input) => sqs.send(new sdk[`${name}Command`](input));

async function queue(Attributes = {}) {
  const QueueName = unique("q") + (Attributes.FifoQueue ? ".fifo" : "");
  return (await send("CreateQueue", { QueueName, Attributes })).QueueUrl;
}

async function counters(QueueUrl) {
  const names = ["", "NotVisible", "Delayed"].map((n) => `ApproximateNumberOfMessages${n}`);
  const { Attributes } = await send("GetQueueAttributes", { QueueUrl, AttributeNames: names });
  return names.map((n) => Number(Attributes[n]));
}

/** Run a consumer until `done` resolves; errors that the test does not expect fail it. */
async function consume(queueUrl, more, done, expected = []) {
  const errors = [];
  const consumer = Consumer.create({ queueUrl, sqs, waitTimeSeconds: 5, ...more });
  for (const event of ["error", "processing_error", "timeout_error"]) {
    consumer.on(event, (error) => {
      if (!expected.some((text) => error.message.includes(text))) errors.push(error);
    });
  }
  consumer.start();
  try {
    await done(consumer);
  } finally {
    const stopped = new Promise((resolve) => consumer.once("stopped", resolve));
    consumer.stop({ abort: true });
    await stopped;
  }
  assert.deepEqual(errors, []);
}

const empty = (url) =>
  until(async () => (await counters(url)).every((n) => n === 0), 20000, "an empty queue");

test("what is produced is consumed, once", async () => {
  const queueUrl = await queue();
  const producer = Producer.create({ queueUrl, sqs, batchSize: 10 });
  const bodies = Array.from({ length: 25 }, (_, i) => `body-${i}`);
  const sent = await producer.send(bodies);
  assert.equal(sent.length, 25);
  assert.equal(await producer.queueSize(), 25);
  const seen = [];
  const handleMessageBatch = async (messages) => {
    seen.push(...messages.map((m) => m.Body));
    return messages;
  };
  await consume(queueUrl, { batchSize: 10, handleMessageBatch }, () => empty(queueUrl));
  assert.deepEqual(seen.sort(), bodies.sort());
});

test("attributes, delays and groups of a FIFO queue arrive", async () => {
  const queueUrl = await queue({ FifoQueue: "true" });
  const producer = Producer.create({ queueUrl, sqs });
  await producer.send(
    ["a1", "b1", "a2", "a3"].map((id) => ({
      id,
      body: id,
      groupId: id[0],
      deduplicationId: id,
      messageAttributes: { id: { DataType: "String", StringValue: id } },
    })),
  );
  const seen = { a: [], b: [] };
  const handleMessageBatch = async (messages) => {
    for (const m of messages) {
      assert.equal(m.MessageAttributes.id.StringValue, m.Body);
      seen[m.Attributes.MessageGroupId].push(m.Body);
    }
    return messages;
  };
  await consume(
    queueUrl,
    {
      handleMessageBatch,
      batchSize: 2,
      suppressFifoWarning: true,
      messageAttributeNames: ["All"],
      messageSystemAttributeNames: ["All"],
    },
    () => empty(queueUrl),
  );
  assert.deepEqual(seen, { a: ["a1", "a2", "a3"], b: ["b1"] });
});

test("a failed message comes back at once, and to the dead-letter queue in the end", async () => {
  const dead = await queue();
  const { Attributes } = await send("GetQueueAttributes", {
    QueueUrl: dead,
    AttributeNames: ["QueueArn"],
  });
  const queueUrl = await queue({
    RedrivePolicy: JSON.stringify({ deadLetterTargetArn: Attributes.QueueArn, maxReceiveCount: 3 }),
  });
  await Producer.create({ queueUrl, sqs }).send(["good", "bad"]);
  const attempts = { good: 0, bad: 0 };
  const handleMessage = async (message) => {
    attempts[message.Body]++;
    if (message.Body === "bad") throw new Error("this one is bad");
    return message;
  };
  await consume(
    queueUrl,
    { handleMessage, terminateVisibilityTimeout: true },
    () => until(async () => (await counters(dead))[0] === 1, 20000, "a dead letter"),
    ["this one is bad"],
  );
  assert.deepEqual(attempts, { good: 1, bad: 3 });
  assert.deepEqual(await counters(queueUrl), [0, 0, 0]);
});

test("heartbeats keep a message that takes longer than its visibility timeout", async () => {
  const queueUrl = await queue();
  await Producer.create({ queueUrl, sqs }).send("slow");
  let begun = 0;
  const handleMessage = async (message) => {
    begun++;
    await sleep(4500);
    return message;
  };
  const slow = { handleMessage, visibilityTimeout: 2, heartbeatInterval: 1 };
  const idle = { handleMessage, visibilityTimeout: 2 };
  await consume(queueUrl, slow, async () => {
    await until(() => begun > 0, 10000, "the first receive");
    await consume(queueUrl, idle, () => empty(queueUrl));
  });
  assert.equal(begun, 1);
});

test("a consumer that stops in a long poll takes no message with it", async () => {
  const queueUrl = await queue();
  await consume(queueUrl, { handleMessage: async (m) => m, waitTimeSeconds: 20 }, () => sleep(500));
  await Producer.create({ queueUrl, sqs }).send("mine");
  const { Messages } = await send("ReceiveMessage", {
    QueueUrl: queueUrl,
    WaitTimeSeconds: 5,
    MessageSystemAttributeNames: ["ApproximateReceiveCount"],
  });
  assert.equal(Messages[0].Body, "mine");
  assert.equal(Messages[0].Attributes.ApproximateReceiveCount, "1");
});
