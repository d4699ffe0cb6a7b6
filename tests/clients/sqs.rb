# SPDX-License-Identifier: Apache-2.0
# What ruby_sqs.py runs: scenarios with AWS SDK for Ruby 1, which speaks the Query protocol, signs,
# posts to the queue's own URL and checks MD5s. ruby sqs.rb ENDPOINT SCENARIO
require "json"
require "aws-sdk-v1"

ENDPOINT = URI(ARGV.fetch(0))
SQS = AWS::SQS.new(
  access_key_id: "test", secret_access_key: "test", region: "us-east-1", max_retries: 0,
  sqs_endpoint: ENDPOINT.host, sqs_port: ENDPOINT.port, use_ssl: false
)

def expect(actual, wanted)
  raise "#{actual.inspect} is not #{wanted.inspect}" unless actual == wanted
end

def refused(error)
  yield
rescue error => e
  e.message
else
  raise "no #{error}"
end

def queue(suffix = "", **attributes)
  SQS.queues.create("ruby-#{Process.pid}-#{rand(1 << 40)}#{suffix}", attributes)
end

def send_receive_delete
  q = queue
  body = "Grüße <&\"'> \u{1f600}\r\n"
  sent = q.send_message(body)
  got = q.receive_message(wait_time_seconds: 5, attributes: %i[all])
  expect(got.body, body)
  expect(got.id, sent.message_id)
  expect(got.receive_count, 1)
  expect([q.visible_messages, q.invisible_messages], [0, 1])
  got.visibility_timeout = 0
  again = q.receive_message
  expect(again.body, body)
  again.delete
  expect([q.visible_messages, q.invisible_messages], [0, 0])
  expect(q.receive_message, nil)
end

def batches
  q = queue
  expect(q.batch_send(*(0...10).map { |i| "body #{i}" }).size, 10)
  got = []
  got += q.receive_messages(limit: 10, wait_time_seconds: 5) while got.size < 10
  expect(got.map(&:body).sort, (0...10).map { |i| "body #{i}" })
  q.batch_delete(*got)
  expect([q.visible_messages, q.invisible_messages], [0, 0])
end

def settings
  q = queue(visibility_timeout: 77)
  expect(q.visibility_timeout, 77)
  q.visibility_timeout = 12
  q.delay_seconds = 3
  expect([q.visibility_timeout, q.delay_seconds], [12, 3])
  expect(q.arn, "arn:aws:sqs:us-east-1:000000000000:#{q.url[/[^\/]+$/]}")
  expect(SQS.queues.named(q.url[/[^\/]+$/]).url, q.url)
  expect(SQS.queues.with_prefix("ruby-#{Process.pid}").map(&:url).include?(q.url), true)
  q.policy = { "Version" => "2012-10-17", "Statement" => [
    { "Effect" => "Allow", "Principal" => "*", "Action" => "sqs:SendMessage", "Resource" => q.arn }
  ] }.to_json
  expect(JSON.parse(q.policy.to_json)["Statement"].size, 1)
end

def errors
  q = queue
  text = refused(AWS::SQS::Errors::NonExistentQueue) { SQS.queues.named("no-such-queue") }
  expect(text, "The specified queue does not exist for this wsdl version.")
  refused(AWS::SQS::Errors::QueueAlreadyExists) do
    SQS.queues.create(q.url[/[^\/]+$/], visibility_timeout: 5)
  end
  refused(AWS::SQS::Errors::InvalidAttributeValue) { q.visibility_timeout = 43_201 }
  refused(AWS::SQS::Errors::InvalidMessageContents) { q.send_message("\u0001") }
  q.delete
  refused(AWS::SQS::Errors::NonExistentQueue) { q.send_message("x") }
  expect(q.exists?, false)
end

send(ARGV.fetch(1))
