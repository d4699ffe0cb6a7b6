// SPDX-License-Identifier: Apache-2.0
// SQS with @aws-sdk/client-sqs, which speaks the JSON protocol and checks every MD5.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import * as sdk from "@aws-sdk/client-sqs";
import { options, queueArn, start, unique, until } from "./millrace.mjs";

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

async function queue(attributes = {}) {
  const name = unique("q") + (attributes.FifoQueue ? ".fifo" : "");
  const { QueueUrl } = await send("CreateQueue", { QueueName: name, Attributes: attributes });
  return { name, url: QueueUrl };
}

async function receive(url, more = {}) {
  const answer = await send("ReceiveMessage", {
    QueueUrl: url,
    WaitTimeSeconds: 5,
    MaxNumberOfMessages: 10,
    ...more,
  });
  return answer.Messages ?? [];
}

test("send, receive with attributes, delete", async () => {
  const { url } = await queue();
  const body = 'Grüße, 世界 & <tags> "quoted"\t\n';
  const sent = await send("SendMessage", {
    QueueUrl: url,
    MessageBody: body,
    MessageAttributes: {
      kind: { DataType: "String", StringValue: "ü" },
      n: { DataType: "Number.int", StringValue: "42" },
      raw: { DataType: "Binary", BinaryValue: new Uint8Array([0, 255]) },
    },
  });
  const [got] = await receive(url, {
    MessageSystemAttributeNames: ["All"],
    MessageAttributeNames: ["All"],
  });
  assert.equal(got.Body, body);
  assert.equal(got.MessageId, sent.MessageId);
  assert.equal(got.MD5OfMessageAttributes, sent.MD5OfMessageAttributes);
  assert.deepEqual([...got.MessageAttributes.raw.BinaryValue], [0, 255]);
  assert.equal(got.Attributes.ApproximateReceiveCount, "1");
  await send("DeleteMessage", { QueueUrl: url, ReceiptHandle: got.ReceiptHandle });
  const { Attributes } = await send("GetQueueAttributes", {
    QueueUrl: url,
    AttributeNames: ["All"],
  });
  assert.equal(Attributes.ApproximateNumberOfMessagesNotVisible, "0");
});

test("batches", async () => {
  const { url } = await queue();
  const Entries = Array.from({ length: 10 }, (_, i) => ({ Id: `m${i}`, MessageBody: `body ${i}` }));
  const sent = await send("SendMessageBatch", { QueueUrl: url, Entries });
  assert.equal(sent.Successful.length, 10);
  const got = [];
  while (got.length < 10) got.push(...(await receive(url)));
  const gone = await send("DeleteMessageBatch", {
    QueueUrl: url,
    Entries: got.map((m, i) => ({ Id: String(i), ReceiptHandle: m.ReceiptHandle })),
  });
  assert.equal(gone.Successful.length, 10);
});

test("a FIFO queue keeps order in groups and forgets duplicates", async () => {
  const { url } = await queue({ FifoQueue: "true", ContentBasedDeduplication: "true" });
  const message = (group, n) => ({ MessageGroupId: group, MessageBody: `${group}${n}` });
  const Entries = [0, 1, 2].flatMap((n) =>
    ["a", "b"].map((group) => ({ Id: `${group}${n}`, ...message(group, n) })),
  );
  const { Successful } = await send("SendMessageBatch", { QueueUrl: url, Entries });
  const again = await send("SendMessage", { QueueUrl: url, ...message("a", 0) });
  assert.equal(again.MessageId, Successful.find((s) => s.Id === "a0").MessageId);
  assert.match(again.SequenceNumber, /^\d{20}$/);
  const seen = { a: [], b: [] };
  while (seen.a.length + seen.b.length < 6) {
    const got = await receive(url, {
      MaxNumberOfMessages: 2,
      MessageSystemAttributeNames: ["All"],
    });
    for (const m of got) {
      seen[m.Attributes.MessageGroupId].push(m.Body);
      await send("DeleteMessage", { QueueUrl: url, ReceiptHandle: m.ReceiptHandle });
    }
  }
  assert.deepEqual(seen, { a: ["a0", "a1", "a2"], b: ["b0", "b1", "b2"] });
  await assert.rejects(send("SendMessage", { QueueUrl: url, MessageBody: "no group" }), {
    name: "MissingParameter",
  });
});

test("messages go back from a dead-letter queue", async () => {
  const dead = await queue();
  const arn = queueArn(dead.name);
  const { url } = await queue({
    RedrivePolicy: JSON.stringify({ deadLetterTargetArn: arn, maxReceiveCount: 1 }),
  });
  const sources = await send("ListDeadLetterSourceQueues", { QueueUrl: dead.url });
  assert.deepEqual(sources.queueUrls, [url]);
  await send("SendMessage", { QueueUrl: url, MessageBody: "poison" });
  await receive(url, { VisibilityTimeout: 0 });
  assert.deepEqual(await receive(url, { WaitTimeSeconds: 0 }), []);
  const { TaskHandle } = await send("StartMessageMoveTask", { SourceArn: arn });
  assert.ok(TaskHandle);
  const task = await until(
    async () => {
      const { Results } = await send("ListMessageMoveTasks", { SourceArn: arn });
      return Results[0].Status === "COMPLETED" && Results[0];
    },
    20000,
    "the end of the move",
  );
  assert.equal(task.ApproximateNumberOfMessagesMoved, 1);
  assert.equal((await receive(url))[0].Body, "poison");
  await assert.rejects(
    send("StartMessageMoveTask", { SourceArn: queueArn(unique("none")) }),
    sdk.ResourceNotFoundException,
  );
});

test("tags and permissions", async () => {
  const { url } = await queue();
  await send("TagQueue", { QueueUrl: url, Tags: { team: "ü", x: "1" } });
  await send("UntagQueue", { QueueUrl: url, TagKeys: ["x"] });
  assert.deepEqual((await send("ListQueueTags", { QueueUrl: url })).Tags, { team: "ü" });
  await send("AddPermission", {
    QueueUrl: url,
    Label: "l",
    AWSAccountIds: ["123456789012"],
    Actions: ["SendMessage"],
  });
  await send("RemovePermission", { QueueUrl: url, Label: "l" });
  const { Attributes } = await send("GetQueueAttributes", {
    QueueUrl: url,
    AttributeNames: ["Policy"],
  });
  assert.equal(Attributes, undefined);
});

test("an empty receive has no messages", async () => {
  const { url } = await queue();
  const answer = await send("ReceiveMessage", { QueueUrl: url });
  assert.equal(answer.Messages, undefined);
});

test("a long poll wakes, and one that is aborted takes no message", async () => {
  const { url } = await queue();
  const abort = new AbortController();
  const left = sqs.send(new sdk.ReceiveMessageCommand({ QueueUrl: url, WaitTimeSeconds: 20 }), {
    abortSignal: abort.signal,
  });
  setTimeout(() => abort.abort(), 300);
  await assert.rejects(left, { name: "AbortError" });
  const waiting = receive(url, { WaitTimeSeconds: 20 });
  setTimeout(() => send("SendMessage", { QueueUrl: url, MessageBody: "wake up" }), 300);
  assert.equal((await waiting)[0].Body, "wake up");
});

test("visibility and redrive", async () => {
  const dead = await queue();
  const { url } = await queue({
    RedrivePolicy: JSON.stringify({ deadLetterTargetArn: queueArn(dead.name), maxReceiveCount: 1 }),
  });
  await send("SendMessage", { QueueUrl: url, MessageBody: "poison" });
  const [got] = await receive(url);
  await send("ChangeMessageVisibility", {
    QueueUrl: url,
    ReceiptHandle: got.ReceiptHandle,
    VisibilityTimeout: 0,
  });
  assert.deepEqual(await receive(url, { WaitTimeSeconds: 1 }), []);
  assert.equal((await receive(dead.url))[0].Body, "poison");
});

test("errors are the modeled ones", async () => {
  const { name, url } = await queue();
  await assert.rejects(send("GetQueueUrl", { QueueName: unique("none") }), sdk.QueueDoesNotExist);
  await assert.rejects(
    send("CreateQueue", { QueueName: name, Attributes: { DelaySeconds: "7" } }),
    sdk.QueueNameExists,
  );
  await assert.rejects(
    send("DeleteMessage", { QueueUrl: url, ReceiptHandle: "nonsense" }),
    sdk.ReceiptHandleIsInvalid,
  );
  await assert.rejects(
    send("SendMessageBatch", { QueueUrl: url, Entries: [] }),
    sdk.EmptyBatchRequest,
  );
  await assert.rejects(
    send("SetQueueAttributes", { QueueUrl: url, Attributes: { DelaySeconds: "901" } }),
    sdk.InvalidAttributeValue,
  );
});
