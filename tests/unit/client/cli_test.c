/* SPDX-License-Identifier: Apache-2.0 */
/* Whole command lines against a broker of canned answers: what is asked, printed and returned. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/cli/cli.h"
#include "tests/unit/client/fake_broker.h"

#include <fcntl.h>

#define WORDS_MAX 24
#define COUNT(a)  (sizeof(a) / sizeof((a)[0]))
#define URL_REPLY "{\"QueueUrl\":\"http://h/000000000000/orders\"}"

struct outcome {
    int exit_status;
    struct buffer out, err;
};

/* Split at spaces; '_' in a word stands for a space in it. */
static struct outcome run_line(const char *endpoint, const char *line)
{
    char copy[1024];
    const char *argv[WORDS_MAX] = {"millrace"};
    int argc = 1;
    struct outcome outcome = {0};
    snprintf(copy, sizeof copy, "%s", line);
    bool in_word = false;
    for (char *at = copy; *at != 0; at++) {
        if (!in_word && *at != ' ')
            argv[argc++] = at;
        in_word = *at != ' ';
        *at = *at == ' ' ? 0 : *at == '_' ? ' ' : *at;
    }
    if (endpoint != NULL) {
        argv[argc++] = "--endpoint";
        argv[argc++] = endpoint;
    }
    outcome.exit_status = cli_run(argc, (char *const *)(uintptr_t)argv, &outcome.out, &outcome.err);
    buffer_c_string(&outcome.out);
    buffer_c_string(&outcome.err);
    return outcome;
}

static const char *text_of(struct buffer *b)
{
    return buffer_c_string(b);
}

static void outcome_free(struct outcome *outcome)
{
    buffer_free(&outcome->out);
    buffer_free(&outcome->err);
}

static void contains(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        fail_msg("'%s' is not in '%s'", part, text);
}

/* The line against a script: all of it must be asked for. */
static struct outcome run_script(struct fake_broker *broker, const struct fake_answer *script,
                                 size_t count, const char *line)
{
    fake_begin(broker, script, count);
    struct outcome outcome = run_line(broker->endpoint, line);
    fake_end(broker);
    assert_int_equal(broker->request_count, count);
    return outcome;
}

static json_t *body_of(const struct fake_broker *broker, size_t index)
{
    const char *body = strstr(broker->requests[index], "\r\n\r\n");
    json_t *value = json_loads(body + 4, JSON_DECODE_ANY, NULL);
    assert_non_null(value);
    return value;
}

static void expect_misuse(const char *line, const char *why)
{
    struct outcome o = run_line(NULL, line);
    contains(text_of(&o.err), why);
    assert_int_equal(o.exit_status, CLI_EXIT_MISUSE);
    assert_int_equal(o.out.length, 0);
    outcome_free(&o);
}

/* ---- the command line ----------------------------------------------------------------------- */

static void misuse_is_told_with_status_64(void **state)
{
    (void)state;
    expect_misuse("", "Usage: millrace");
    expect_misuse("frobnicate", "'frobnicate' is no command");
    expect_misuse("queue frobnicate x", "'queue frobnicate' is no command");
    expect_misuse("--frobnicate", "'--frobnicate' is no command");
    expect_misuse("queue create", "missing argument; usage: millrace queue create");
    expect_misuse("queue list x", "unexpected argument");
    expect_misuse("queue create x --wait 3", "--wait");
    expect_misuse("queue create x --visibility soon", "--visibility");
    expect_misuse("queue create x --visibility 43201", "43200");
    expect_misuse("queue create x --max-receives 3", "--max-receives needs --dead-letter");
    expect_misuse("queue receive x --max 11", "--max");
    expect_misuse("queue send x", "BODY");
    expect_misuse("queue send x body --file f", "BODY");
    expect_misuse("queue send x body --attribute novalue", "'novalue' is not NAME=VALUE");
    expect_misuse("queue send x body --attribute =v", "'=v' is not NAME=VALUE");
    expect_misuse("queue list --endpoint ftp://x", "not an http:// or https:// URL");
    expect_misuse("queue list --endpoint", "--endpoint");
    expect_misuse("function deploy dir", "--runtime");
    expect_misuse("function deploy dir --runtime r --handler h --batch-size 2", "needs --queue");
    expect_misuse("function invoke f --payload 1 --file x", "--payload or with --file");
    expect_misuse("function invoke f --async --tail", "--async");
    expect_misuse("local --http nonsense", "--http");
}

static void help_and_version_work_without_a_broker(void **state)
{
    (void)state;
    struct outcome o = run_line(NULL, "--help");
    assert_int_equal(o.exit_status, 0);
    contains(text_of(&o.out), "queue create");
    contains(text_of(&o.out), "function deploy");
    contains(text_of(&o.out), "local");
    outcome_free(&o);
    o = run_line(NULL, "queue --help");
    assert_int_equal(o.exit_status, 0);
    contains(text_of(&o.out), "queue purge");
    assert_null(strstr(text_of(&o.out), "function deploy"));
    outcome_free(&o);
    o = run_line(NULL, "--version");
    assert_int_equal(o.exit_status, 0);
    assert_string_equal(text_of(&o.out), "millrace " MILLRACE_VERSION "\n");
    outcome_free(&o);
}

static void the_endpoint_comes_from_flag_or_environment(void **state)
{
    (void)state;
    static const struct fake_answer script[] = {{200, NULL, "{\"QueueUrls\":[]}", NULL}};
    struct fake_broker broker;
    fake_begin(&broker, script, COUNT(script));
    setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1", 1);
    setenv("MILLRACE_ENDPOINT", broker.endpoint, 1);
    struct outcome o = run_line(NULL, "--json queue list");
    unsetenv("MILLRACE_ENDPOINT");
    fake_end(&broker);
    assert_int_equal(o.exit_status, 0);
    assert_string_equal(text_of(&o.out), "[]\n");
    outcome_free(&o);
    fake_free(&broker);

    fake_begin(&broker, script, COUNT(script));
    setenv("AWS_ENDPOINT_URL", broker.endpoint, 1);
    o = run_line(NULL, "queue list");
    unsetenv("AWS_ENDPOINT_URL");
    fake_end(&broker);
    assert_int_equal(o.exit_status, 0);
    contains(text_of(&o.out), "There are no queues");
    outcome_free(&o);
    fake_free(&broker);
}

static void an_unreachable_broker_is_status_1(void **state)
{
    (void)state;
    struct outcome o = run_line("http://127.0.0.1:1", "queue list");
    assert_int_equal(o.exit_status, CLI_EXIT_FAILED);
    contains(text_of(&o.err), "millrace: cannot list the queues: cannot reach http://127.0.0.1:1");
    outcome_free(&o);
}

/* ---- queues --------------------------------------------------------------------------------- */

static void creates_a_queue_with_a_dead_letter_queue(void **state)
{
    (void)state;
    static const struct fake_answer script[] = {
        {200, NULL, URL_REPLY, NULL},
        {200, NULL, "{\"Attributes\":{\"QueueArn\":\"arn:aws:sqs:r:1:dead\"}}", NULL},
        {200, NULL, URL_REPLY, NULL}};
    struct fake_broker broker;
    struct outcome o =
        run_script(&broker, script, COUNT(script),
                   "queue create orders --visibility 60 --dead-letter dead --max-receives 5");
    assert_int_equal(o.exit_status, 0);
    contains(text_of(&o.out), "http://h/000000000000/orders");
    contains(broker.requests[0], "X-Amz-Target: AmazonSQS.GetQueueUrl\r\n");
    contains(broker.requests[2], "X-Amz-Target: AmazonSQS.CreateQueue\r\n");
    contains(broker.requests[2], "Content-Type: application/x-amz-json-1.0\r\n");
    json_t *body = body_of(&broker, 2);
    json_t *attributes = json_object_get(body, "Attributes");
    assert_string_equal(cli_text(body, "QueueName", ""), "orders");
    assert_string_equal(cli_text(attributes, "VisibilityTimeout", ""), "60");
    assert_null(json_object_get(attributes, "DelaySeconds"));
    assert_string_equal(cli_text(attributes, "RedrivePolicy", ""),
                        "{\"deadLetterTargetArn\":\"arn:aws:sqs:r:1:dead\",\"maxReceiveCount\":5}");
    json_decref(body);
    outcome_free(&o);
    fake_free(&broker);
}

static void tells_the_code_and_message_of_the_api(void **state)
{
    (void)state;
    static const struct fake_answer script[] = {
        {400, NULL,
         "{\"__type\":\"com.amazonaws.sqs#QueueDoesNotExist\","
         "\"message\":\"The specified queue\\ndoes not exist.\"}",
         NULL}};
    struct fake_broker broker;
    struct outcome o = run_script(&broker, script, 1, "queue purge nothing");
    assert_int_equal(o.exit_status, CLI_EXIT_FAILED);
    assert_string_equal(text_of(&o.err), "millrace: cannot purge 'nothing': QueueDoesNotExist: "
                                         "The specified queue does not exist.\n");
    assert_int_equal(o.out.length, 0);
    outcome_free(&o);
    fake_free(&broker);
}

static void lists_queues_page_by_page(void **state)
{
    (void)state;
    static const char counts[] = "{\"Attributes\":{\"ApproximateNumberOfMessages\":\"12\","
                                 "\"ApproximateNumberOfMessagesNotVisible\":\"3\","
                                 "\"ApproximateNumberOfMessagesDelayed\":\"0\"}}";
    static const struct fake_answer script[] = {
        {200, NULL, "{\"QueueUrls\":[\"http://h/0/a\"],\"NextToken\":\"t1\"}", NULL},
        {200, NULL, "{\"QueueUrls\":[\"http://h/0/b\"]}", NULL},
        {200, NULL, "{\"QueueUrl\":\"http://h/0/a\"}", NULL},
        {200, NULL, counts, NULL},
        {400, NULL, "{\"__type\":\"com.amazonaws.sqs#QueueDoesNotExist\",\"message\":\"m\"}",
         NULL}};
    struct fake_broker broker;
    struct outcome o = run_script(&broker, script, COUNT(script), "queue list --prefix a");
    assert_int_equal(o.exit_status, 0);
    assert_string_equal(text_of(&o.out), "NAME  VISIBLE  IN FLIGHT  DELAYED  URL\n"
                                         "a          12          3        0  http://h/0/a\n"
                                         "b           -          -        -  http://h/0/b\n");
    contains(broker.requests[0], "\"QueueNamePrefix\":\"a\"");
    contains(broker.requests[1], "\"NextToken\":\"t1\"");
    outcome_free(&o);
    fake_free(&broker);
}

static void sends_with_attributes_and_delay(void **state)
{
    (void)state;
    static const struct fake_answer script[] = {
        {200, NULL, URL_REPLY, NULL},
        {200, NULL, "{\"MessageId\":\"id-1\",\"MD5OfMessageBody\":\"x\"}", NULL}};
    struct fake_broker broker;
    struct outcome o = run_script(&broker, script, 2,
                                  "queue send orders two_words --delay 5 --attribute source=shop "
                                  "--attribute=note=a=b");
    assert_int_equal(o.exit_status, 0);
    assert_string_equal(text_of(&o.out), "Sent id-1\n");
    json_t *body = body_of(&broker, 1);
    json_t *attributes = json_object_get(body, "MessageAttributes");
    assert_string_equal(cli_text(body, "MessageBody", ""), "two words");
    assert_int_equal(cli_integer(body, "DelaySeconds"), 5);
    assert_int_equal(json_object_size(attributes), 2);
    json_t *note = json_object_get(attributes, "note");
    assert_string_equal(cli_text(note, "StringValue", ""), "a=b");
    assert_string_equal(cli_text(note, "DataType", ""), "String");
    json_decref(body);
    outcome_free(&o);
    fake_free(&broker);
}

static void sends_a_file_and_refuses_what_is_no_text(void **state)
{
    (void)state;
    char path[] = "/tmp/millrace-cli-XXXXXX";
    char line[128];
    int fd = mkstemp(path);
    assert_int_equal(write(fd, "from a file\n", 12), 12);
    snprintf(line, sizeof line, "queue send orders --file %s", path);
    static const struct fake_answer script[] = {{200, NULL, URL_REPLY, NULL},
                                                {200, NULL, "{\"MessageId\":\"id-2\"}", NULL}};
    struct fake_broker broker;
    struct outcome o = run_script(&broker, script, 2, line);
    assert_int_equal(o.exit_status, 0);
    contains(broker.requests[1], "\"MessageBody\":\"from a file\\n\"");
    outcome_free(&o);
    fake_free(&broker);

    assert_int_equal(write(fd, "\xff\xfe", 2), 2);
    o = run_script(&broker, script, 0, line);
    assert_int_equal(o.exit_status, CLI_EXIT_FAILED);
    contains(text_of(&o.err), "UTF-8");
    outcome_free(&o);

    assert_int_equal(ftruncate(fd, (1 << 20) + 1), 0);
    o = run_script(&broker, script, 0, line);
    assert_int_equal(o.exit_status, CLI_EXIT_FAILED);
    contains(text_of(&o.err), "larger than the limit");
    outcome_free(&o);
    close(fd);
    unlink(path);

    o = run_script(&broker, script, 0, line);
    assert_int_equal(o.exit_status, CLI_EXIT_FAILED);
    contains(text_of(&o.err), "not found");
    outcome_free(&o);
}

static const char two_messages[] =
    "{\"Messages\":[{\"MessageId\":\"m1\",\"ReceiptHandle\":\"h1\",\"Body\":\"one\","
    "\"Attributes\":{\"ApproximateReceiveCount\":\"2\"},"
    "\"MessageAttributes\":{\"k\":{\"DataType\":\"String\",\"StringValue\":\"v\"}}},"
    "{\"MessageId\":\"m2\",\"ReceiptHandle\":\"h2\",\"Body\":\"two\"}]}";

static void receives_and_deletes(void **state)
{
    (void)state;
    static const struct fake_answer script[] = {{200, NULL, URL_REPLY, NULL},
                                                {200, NULL, two_messages, NULL},
                                                {200, NULL, "", NULL},
                                                {200, NULL, "{}", NULL}};
    struct fake_broker broker;
    struct outcome o = run_script(&broker, script, COUNT(script),
                                  "queue receive orders --max 10 --wait 2 --delete");
    assert_int_equal(o.exit_status, 0);
    contains(text_of(&o.out), "message m1, received 2 times\nattribute k (String) = v\none\n");
    contains(text_of(&o.out), "message m2");
    assert_null(strstr(text_of(&o.out), "receipt"));
    json_t *body = body_of(&broker, 1);
    assert_int_equal(cli_integer(body, "MaxNumberOfMessages"), 10);
    assert_int_equal(cli_integer(body, "WaitTimeSeconds"), 2);
    assert_null(json_object_get(body, "VisibilityTimeout"));
    json_decref(body);
    contains(broker.requests[2], "AmazonSQS.DeleteMessage\r\n");
    contains(broker.requests[3], "\"ReceiptHandle\":\"h2\"");
    outcome_free(&o);
    fake_free(&broker);
}

static void an_empty_queue_is_no_failure(void **state)
{
    (void)state;
    static const struct fake_answer script[] = {{200, NULL, URL_REPLY, NULL},
                                                {200, NULL, "{}", NULL}};
    struct fake_broker broker;
    struct outcome o = run_script(&broker, script, 2, "queue receive orders --json");
    assert_int_equal(o.exit_status, 0);
    assert_string_equal(text_of(&o.out), "[]\n");
    outcome_free(&o);
    fake_free(&broker);
}

static void a_failed_delete_still_shows_the_message(void **state)
{
    (void)state;
    static const struct fake_answer script[] = {
        {200, NULL, URL_REPLY, NULL}, {200, NULL, two_messages, NULL}, {500, NULL, "oops", NULL}};
    struct fake_broker broker;
    struct outcome o = run_script(&broker, script, COUNT(script), "queue receive orders --delete");
    assert_int_equal(o.exit_status, CLI_EXIT_FAILED);
    contains(text_of(&o.out), "one\n");
    assert_string_equal(text_of(&o.err), "millrace: cannot delete message m1: HTTP 500: oops\n");
    outcome_free(&o);
    fake_free(&broker);
}

/* ---- functions ------------------------------------------------------------------------------ */

#define NOT_FOUND                                                                                  \
    {                                                                                              \
        404, "x-amzn-ErrorType: ResourceNotFoundException:http://x\r\n",                           \
            "{\"Type\":\"User\",\"Message\":\"Function not found: f\"}", NULL                      \
    }
#define ACTIVE                                                                                     \
    "{\"FunctionName\":\"f\",\"Runtime\":\"python3.11\",\"MemorySize\":256,\"Timeout\":20,"        \
    "\"CodeSize\":99,\"State\":\"Active\",\"LastUpdateStatus\":\"Successful\"}"

struct folder {
    char path[64];
    char file[80];
};

static struct folder make_folder(void)
{
    struct folder folder;
    snprintf(folder.path, sizeof folder.path, "/tmp/millrace-cli-XXXXXX");
    assert_non_null(mkdtemp(folder.path));
    snprintf(folder.file, sizeof folder.file, "%s/app.py", folder.path);
    int fd = open(folder.file, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
    assert_int_equal(write(fd, "def handler(e, c): return e\n", 28), 28);
    close(fd);
    return folder;
}

static void remove_folder(const struct folder *folder)
{
    unlink(folder->file);
    rmdir(folder->path);
}

static void deploys_a_new_function_with_its_queue(void **state)
{
    (void)state;
    static const struct fake_answer script[] = {
        NOT_FOUND,
        {201, NULL, ACTIVE, NULL},
        {200, NULL, "{\"State\":\"Pending\"}", NULL},
        {200, NULL, ACTIVE, NULL},
        {400, NULL, "{\"__type\":\"com.amazonaws.sqs#QueueDoesNotExist\",\"message\":\"m\"}", NULL},
        {200, NULL, URL_REPLY, NULL},
        {200, NULL, URL_REPLY, NULL},
        {200, NULL, "{\"Attributes\":{\"QueueArn\":\"arn:q\"}}", NULL},
        {200, NULL, "{\"EventSourceMappings\":[]}", NULL},
        {202, NULL, "{\"UUID\":\"u\",\"BatchSize\":5}", NULL}};
    struct folder folder = make_folder();
    struct fake_broker broker;
    char line[256];
    snprintf(
        line, sizeof line,
        "function deploy %s --name f --runtime python3.11 --handler app.handler --queue orders "
        "--batch-size 5 --timeout 20 --memory 256 --env A=1 --env B=x=y",
        folder.path);
    struct outcome o = run_script(&broker, script, COUNT(script), line);
    remove_folder(&folder);
    assert_string_equal(text_of(&o.err), "");
    assert_int_equal(o.exit_status, 0);
    contains(text_of(&o.out), "Created function f: python3.11, 256 MB, 20 s");
    contains(text_of(&o.out), "Queue orders triggers it in batches of up to 5.");
    contains(broker.requests[0], "GET /2015-03-31/functions/f/configuration HTTP/1.1\r\n");
    contains(broker.requests[1], "POST /2015-03-31/functions/ HTTP/1.1\r\n");
    json_t *body = body_of(&broker, 1);
    json_t *variables = json_object_get(json_object_get(body, "Environment"), "Variables");
    assert_string_equal(cli_text(variables, "A", ""), "1");
    assert_string_equal(cli_text(variables, "B", ""), "x=y");
    assert_int_equal(cli_integer(body, "Timeout"), 20);
    /* "PK\3\4" in base64: a zip. */
    assert_memory_equal(cli_text(json_object_get(body, "Code"), "ZipFile", "????"), "UEsD", 4);
    json_decref(body);
    body = body_of(&broker, 5);
    assert_string_equal(cli_text(json_object_get(body, "Attributes"), "VisibilityTimeout", ""),
                        "120");
    json_decref(body);
    contains(broker.requests[9], "\"EventSourceArn\":\"arn:q\"");
    outcome_free(&o);
    fake_free(&broker);
}

static void deploys_again_by_updating(void **state)
{
    (void)state;
    static const struct fake_answer script[] = {
        {200, NULL, ACTIVE, NULL},
        {200, NULL, ACTIVE, NULL},
        {200, NULL, ACTIVE, NULL},
        {200, NULL, ACTIVE, NULL},
        {200, NULL, ACTIVE, NULL},
        {200, NULL, URL_REPLY, NULL},
        {200, NULL, "{\"Attributes\":{\"QueueArn\":\"arn:q\"}}", NULL},
        {200, NULL,
         "{\"EventSourceMappings\":[{\"UUID\":\"u-1\",\"EventSourceArn\":\"arn:q\","
         "\"BatchSize\":10}]}",
         NULL},
        {202, NULL, "{\"UUID\":\"u-1\",\"BatchSize\":7}", NULL}};
    struct folder folder = make_folder();
    struct fake_broker broker;
    char line[256];
    snprintf(
        line, sizeof line,
        "function deploy %s --name f --runtime python3.11 --handler app.handler --queue orders "
        "--batch-size 7 --json",
        folder.path);
    struct outcome o = run_script(&broker, script, COUNT(script), line);
    remove_folder(&folder);
    assert_string_equal(text_of(&o.err), "");
    assert_int_equal(o.exit_status, 0);
    contains(broker.requests[1], "PUT /2015-03-31/functions/f/code HTTP/1.1\r\n");
    contains(broker.requests[3], "PUT /2015-03-31/functions/f/configuration HTTP/1.1\r\n");
    contains(broker.requests[8], "PUT /2015-03-31/event-source-mappings/u-1 HTTP/1.1\r\n");
    json_t *body = body_of(&broker, 3);
    assert_null(json_object_get(body, "Environment")); /* not given: unchanged */
    assert_null(json_object_get(body, "MemorySize"));
    json_decref(body);
    json_t *told = json_loads(text_of(&o.out), 0, NULL);
    assert_true(json_is_false(json_object_get(told, "Created")));
    json_decref(told);
    outcome_free(&o);
    fake_free(&broker);
}

static void a_missing_folder_is_told(void **state)
{
    (void)state;
    struct outcome o = run_line("http://127.0.0.1:1",
                                "function deploy /nonexistent --runtime python3.11 --handler h");
    assert_int_equal(o.exit_status, CLI_EXIT_FAILED);
    contains(text_of(&o.err), "cannot pack '/nonexistent'");
    outcome_free(&o);
}

static void invokes_and_shows_answer_and_output(void **state)
{
    (void)state;
    static const struct fake_answer script[] = {
        {200, "X-Amz-Log-Result: U1RBUlQgeAo=\r\nX-Amz-Executed-Version: $LATEST\r\n", "{\"n\":1}",
         NULL}};
    struct fake_broker broker;
    struct outcome o =
        run_script(&broker, script, 1, "function invoke a/b --payload {\"x\":1} --tail");
    assert_int_equal(o.exit_status, 0);
    assert_string_equal(text_of(&o.out), "{\"n\":1}\n");
    assert_string_equal(text_of(&o.err), "START x\n");
    contains(broker.requests[0], "POST /2015-03-31/functions/a%2Fb/invocations HTTP/1.1\r\n");
    contains(broker.requests[0], "X-Amz-Log-Type: Tail\r\n");
    contains(broker.requests[0], "\r\n\r\n{\"x\":1}");
    outcome_free(&o);
    fake_free(&broker);
}

static void a_function_error_is_status_1_with_its_payload(void **state)
{
    (void)state;
    static const struct fake_answer script[] = {
        {200, "X-Amz-Function-Error: Unhandled\r\n", "{\"errorType\":\"E\"}", NULL}};
    struct fake_broker broker;
    struct outcome o = run_script(&broker, script, 1, "function invoke f --json");
    assert_int_equal(o.exit_status, CLI_EXIT_FAILED);
    contains(text_of(&o.err), "function 'f' failed (Unhandled)");
    json_t *told = json_loads(text_of(&o.out), 0, NULL);
    assert_string_equal(cli_text(told, "FunctionError", ""), "Unhandled");
    assert_string_equal(cli_text(json_object_get(told, "Payload"), "errorType", ""), "E");
    json_decref(told);
    outcome_free(&o);
    fake_free(&broker);
}

static void deletes_a_function_after_its_triggers(void **state)
{
    (void)state;
    static const struct fake_answer script[] = {
        {200, NULL, ACTIVE, NULL},
        {200, NULL, "{\"EventSourceMappings\":[{\"UUID\":\"u-1\"}]}", NULL},
        {202, NULL, "{}", NULL},
        {204, NULL, "", NULL}};
    struct fake_broker broker;
    struct outcome o = run_script(&broker, script, COUNT(script), "function delete f");
    assert_int_equal(o.exit_status, 0);
    contains(broker.requests[2], "DELETE /2015-03-31/event-source-mappings/u-1 ");
    contains(broker.requests[3], "DELETE /2015-03-31/functions/f ");
    outcome_free(&o);
    fake_free(&broker);
}

/* ---- status --------------------------------------------------------------------------------- */

static void shows_the_status_as_tables(void **state)
{
    (void)state;
    static const struct fake_answer script[] = {
        {200, NULL,
         "{\"version\":\"0.1.0\",\"node_id\":1,\"ready\":true,\"uptime_s\":3725,"
         "\"workers\":[{\"id\":\"w1\",\"host\":\"box\",\"isolation\":\"user\",\"running\":2,"
         "\"warm\":1,\"concurrency_max\":8,\"memory_bytes\":1073741824}],"
         "\"shards\":[{\"id\":0,\"leader\":2,\"ready\":true,\"term\":3,\"last_index\":40,"
         "\"applied_index\":39},{\"id\":1,\"leader\":0,\"ready\":false}],"
         "\"queues\":[{\"name\":\"orders\",\"visible\":5,\"in_flight\":2,\"delayed\":0,"
         "\"shard\":1}],"
         "\"functions\":[{\"name\":\"f\",\"running\":2,\"running_peak\":6,\"waiting\":0,"
         "\"usage\":{\"invocations\":84,\"errors\":1,\"timeouts\":0,\"cold_starts\":6,"
         "\"gb_seconds\":1.5}}],"
         "\"mappings\":[]}",
         NULL}};
    struct fake_broker broker;
    struct outcome o = run_script(&broker, script, 1, "status");
    const char *text = text_of(&o.out);
    assert_int_equal(o.exit_status, 0);
    contains(text, ": node 1, ready, up 1 h 2 min\n");
    contains(text, "w1      box         2     1    8        1024  user\n");
    contains(text, "orders        5          2        0      1\n");
    contains(text, "    0       2  yes       3     40       39\n");
    contains(text, "    1       0  no        0      0        0\n");
    contains(text, "84");
    contains(text, "1.500");
    contains(text, "No queue triggers a function.");
    outcome_free(&o);
    fake_free(&broker);
}

static void hostile_answers_are_errors_not_crashes(void **state)
{
    (void)state;
    static const struct fake_answer scripts[] = {
        {200, NULL, "not json", NULL},
        {200, NULL, "[1,2]", NULL},
        {200, NULL, "", NULL},
        {502, NULL, "<html>\x1b[2J", NULL},
        {0, NULL, NULL, "garbage\r\n\r\n"},
        {0, NULL, NULL, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"cut\":"},
    };
    for (size_t i = 0; i < COUNT(scripts); i++) {
        struct fake_broker broker;
        struct outcome o = run_script(&broker, &scripts[i], 1, "status");
        assert_int_equal(o.exit_status, CLI_EXIT_FAILED);
        contains(text_of(&o.err), "millrace: cannot read the status: ");
        assert_null(strchr(text_of(&o.err), '\x1b'));
        assert_int_equal(o.out.length, 0);
        outcome_free(&o);
        fake_free(&broker);
    }
}

static void odd_members_of_a_status_show_as_dashes(void **state)
{
    (void)state;
    static const struct fake_answer script[] = {
        {200, NULL,
         "{\"workers\":\"none\",\"queues\":[7,{\"name\":3}],\"functions\":[{\"usage\":[]}],"
         "\"mappings\":{}}",
         NULL}};
    struct fake_broker broker;
    struct outcome o = run_script(&broker, script, 1, "status");
    assert_int_equal(o.exit_status, 0);
    contains(text_of(&o.out), "not ready");
    outcome_free(&o);
    fake_free(&broker);
}

#define VIEW_OF_2                                                                                  \
    "{\"ClusterId\":\"c-1\",\"NodeId\":2,\"Leader\":1,\"LeaderEndpoint\":\"\",\"Term\":7,"         \
    "\"LastIndex\":99,\"Members\":[{\"NodeId\":1,\"Address\":\"a:1\",\"Role\":\"voter\","          \
    "\"Leads\":true,"                                                                              \
    "\"Connected\":true,\"FeatureLevel\":1},{\"NodeId\":2,\"Address\":\"b:1\",\"Role\":"           \
    "\"learner\","                                                                                 \
    "\"Leads\":false,\"Connected\":false,\"Lag\":12,\"Refused\":\"wrong cluster\"}],"              \
    "\"Shards\":[{\"ShardId\":0,\"Leader\":1,\"Here\":true,\"Replicas\":[1,2],\"Leaving\":[],"     \
    "\"Ready\":true,\"Term\":3,\"LastIndex\":40,\"AppliedIndex\":39},"                             \
    "{\"ShardId\":1,\"Leader\":0,\"Here\":true,\"Replicas\":[2,1],\"Leaving\":[3],"                \
    "\"Ready\":false,\"Term\":2,\"LastIndex\":7,\"AppliedIndex\":7}]}"

static void shows_the_cluster(void **state)
{
    (void)state;
    static const struct fake_answer script[] = {{200, NULL, VIEW_OF_2, NULL}};
    struct fake_broker broker;
    struct outcome outcome = run_script(&broker, script, COUNT(script), "cluster status");
    assert_int_equal(outcome.exit_status, 0);
    assert_non_null(strstr(broker.requests[0], "GET /admin/cluster HTTP/1.1"));
    contains(text_of(&outcome.out), "Cluster c-1, as node 2 sees it: term 7, index 99");
    contains(text_of(&outcome.out), "learner");
    contains(text_of(&outcome.out), "Node 2 is refused: wrong cluster");
    contains(text_of(&outcome.out), "    0  catalog       1  1 2        3     40            39\n");
    contains(text_of(&outcome.out), "    1  queues     none  2 1 -3     2      7             7\n");
    outcome_free(&outcome);
    fake_free(&broker);
}

/* As a learner, then as a voter; a node that does not catch up stays a learner, and that is said.
 */
static void adds_a_node_in_two_steps(void **state)
{
    (void)state;
    static const struct fake_answer script[] = {
        {200, NULL, VIEW_OF_2, NULL},
        {200, NULL, VIEW_OF_2, NULL},
        {503, "x-amzn-ErrorType: ServiceException\r\n", "{\"Message\":\"not in time\"}", NULL},
    };
    struct fake_broker broker;
    struct outcome outcome = run_script(&broker, script, COUNT(script), "cluster add 4 d:9326");
    assert_int_equal(outcome.exit_status, 1);
    assert_non_null(strstr(broker.requests[1], "POST /admin/cluster/members HTTP/1.1"));
    json_t *body = body_of(&broker, 1);
    assert_int_equal(json_integer_value(json_object_get(body, "NodeId")), 4);
    assert_string_equal(json_string_value(json_object_get(body, "Address")), "d:9326");
    json_decref(body);
    assert_non_null(strstr(broker.requests[2], "PUT /admin/cluster/members/4 HTTP/1.1"));
    contains(text_of(&outcome.err), "it is a learner now");
    outcome_free(&outcome);
    fake_free(&broker);
}

int main(void)
{
    unsetenv("MILLRACE_ENDPOINT");
    unsetenv("AWS_ENDPOINT_URL");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(misuse_is_told_with_status_64),
        cmocka_unit_test(shows_the_cluster),
        cmocka_unit_test(adds_a_node_in_two_steps),
        cmocka_unit_test(help_and_version_work_without_a_broker),
        cmocka_unit_test(the_endpoint_comes_from_flag_or_environment),
        cmocka_unit_test(an_unreachable_broker_is_status_1),
        cmocka_unit_test(creates_a_queue_with_a_dead_letter_queue),
        cmocka_unit_test(tells_the_code_and_message_of_the_api),
        cmocka_unit_test(lists_queues_page_by_page),
        cmocka_unit_test(sends_with_attributes_and_delay),
        cmocka_unit_test(sends_a_file_and_refuses_what_is_no_text),
        cmocka_unit_test(receives_and_deletes),
        cmocka_unit_test(an_empty_queue_is_no_failure),
        cmocka_unit_test(a_failed_delete_still_shows_the_message),
        cmocka_unit_test(deploys_a_new_function_with_its_queue),
        cmocka_unit_test(deploys_again_by_updating),
        cmocka_unit_test(a_missing_folder_is_told),
        cmocka_unit_test(invokes_and_shows_answer_and_output),
        cmocka_unit_test(a_function_error_is_status_1_with_its_payload),
        cmocka_unit_test(deletes_a_function_after_its_triggers),
        cmocka_unit_test(shows_the_status_as_tables),
        cmocka_unit_test(hostile_answers_are_errors_not_crashes),
        cmocka_unit_test(odd_members_of_a_status_show_as_dashes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
