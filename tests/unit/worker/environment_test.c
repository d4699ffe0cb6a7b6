/* SPDX-License-Identifier: Apache-2.0 */
/* The worker end to end, against a broker made of a link_listen: real packages, real runtimes, real
 * processes. What must hold is checked from outside: results, log files, and which processes of an
 * environment are still there. */
#include "tests/unit/worker/fixture.h"

/* ---- tests: what functions can do ---- */

static void python_succeeds_and_stays_warm(void **state)
{
    static const struct function function = PYTHON(
        "py-ok",
        "import os\n"
        "count = 0\n"
        "def handler(event, context):\n"
        "    global count\n"
        "    count += 1\n"
        "    print('working on', event['n'])\n"
        "    return {'n': event['n'] * 2, 'count': count, 'id': context.aws_request_id,\n"
        "            'left': 0 < context.get_remaining_time_in_millis() <= 20000,\n"
        "            'own': os.environ['GREETING'], 'home': os.path.isdir(os.environ['HOME']),\n"
        "            'endpoint': os.environ['AWS_ENDPOINT_URL'],\n"
        "            'api': os.environ['AWS_LAMBDA_RUNTIME_API'].startswith('127.0.0.1:'),\n"
        "            'cwd': os.getcwd() == os.environ['LAMBDA_TASK_ROOT'],\n"
        "            'token': 'AWS_SESSION_TOKEN' in os.environ}\n");
    struct fixture *f = *state;
    if (!has_runtime("python3.11"))
        return;
    const struct seen_result *first = deploy_and_run(f, &function, "{\"n\": 21}");
    expect(first, OK, "{\"n\": 42, \"count\": 1, \"id\": \"8d3f6ad2-");
    expect(first, OK,
           "\"left\": true, \"own\": \"hello\", \"home\": true, "
           "\"endpoint\": \"http://127.0.0.1:9324\", \"api\": true, \"cwd\": true, "
           "\"token\": false");
    assert_true(first->cold);
    assert_true(first->init_us > 0);
    char *line = strstr(first->tail, "START RequestId: ");
    assert_non_null(line);
    char start[400];
    snprintf(start, sizeof start,
             "START RequestId: %s Version: $LATEST\nworking on 21\nEND RequestId: "
             "%s\nREPORT RequestId: %s\tDuration: ",
             REQUEST_ID, REQUEST_ID, REQUEST_ID);
    if (strncmp(line, start, strlen(start)) != 0)
        fail_msg("%s", first->tail);
    double duration, init;
    unsigned billed, size, used;
    char *report = strstr(line, "\tDuration: ");
    assert_int_equal(sscanf(report,
                            "\tDuration: %lf ms\tBilled Duration: %u ms\tMemory Size: %u MB"
                            "\tMax Memory Used: %u MB\tInit Duration: %lf ms\t\n",
                            &duration, &billed, &size, &used, &init),
                     5);
    assert_int_equal(size, 256);
    assert_true(used > 0 && used <= 256);
    assert_true(billed >= duration + init - 0.011 && billed <= duration + init + 1.011);

    const struct seen_result *second = run(f, &function, "{\"n\": 1}");
    expect(second, OK, "\"count\": 2");
    assert_false(second->cold);
    assert_null(strstr(second->tail, "Init Duration"));
    assert_null(strstr(second->tail, "working on 21"));
    assert_int_equal(second->init_us, 0);
    /* The code came in pieces once, and not again. */
    assert_int_equal(f->code_requests, (f->zip.length + f->piece_bytes - 1) / f->piece_bytes);
}

static void python_errors_are_reported(void **state)
{
    static const struct function function =
        PYTHON("py-err", "import sys\n"
                         "class Special(Exception): pass\n"
                         "def handler(event, context):\n"
                         "    if event == 'raise': raise Special('no \\\"way\\\"')\n"
                         "    if event == 'marshal': return {1, 2}\n"
                         "    if event == 'exit': sys.exit(7)\n"
                         "    if event == 'kill':\n"
                         "        import os, signal\n"
                         "        os.kill(os.getpid(), signal.SIGKILL)\n"
                         "    if event == 'large': return 'x' * (7 << 20)\n"
                         "    if event == 'log':\n"
                         "        import logging\n"
                         "        logging.getLogger().warning('careful')\n"
                         "    return 'fine'\n");
    struct fixture *f = *state;
    if (!has_runtime("python3.11"))
        return;
    const struct seen_result *result = deploy_and_run(f, &function, "\"raise\"");
    expect(result, HANDLED,
           "{\"errorMessage\": \"no \\\"way\\\"\", \"errorType\": \"Special\", "
           "\"requestId\": \"8d3f6ad2-");
    expect(result, HANDLED, "\"stackTrace\": [\"  File ");
    assert_non_null(strstr(result->tail, "[ERROR] Special: no \"way\"\nTraceback"));
    result = run(f, &function, "\"marshal\"");
    expect(result, HANDLED, "\"errorType\": \"Runtime.MarshalError\"");
    assert_false(result->cold);
    result = run(f, &function, "\"large\"");
    expect(result, TOO_LARGE, "\"Function.ResponseSizeTooLarge\"");
    result = run(f, &function, "\"log\"");
    expect(result, OK, "\"fine\"");
    assert_false(result->cold);
    assert_non_null(strstr(result->tail, "[WARNING]\t"));
    assert_non_null(strstr(result->tail, "\tcareful\n"));
    result = run(f, &function, "\"exit\"");
    expect(result, CRASH,
           "{\"errorType\":\"Runtime.ExitError\",\"errorMessage\":\"RequestId: "
           "8d3f6ad2-0000-4000-8000-000000000001 Error: Runtime exited with error: "
           "exit status 7\"}");
    result = run(f, &function, "\"kill\"");
    expect(result, CRASH, "Runtime exited with error: signal: killed");
    assert_true(result->cold);
    result = run(f, &function, "\"ok\"");
    expect(result, OK, "\"fine\"");
    assert_true(result->cold);
}

static void python_init_errors_are_named(void **state)
{
    static const struct {
        const char *handler, *text, *part;
    } rows[] = {
        {"app.handler", "import nosuchthing\n",
         "\"errorMessage\": \"Unable to import module 'app': No module named 'nosuchthing'\", "
         "\"errorType\": \"Runtime.ImportModuleError\""},
        {"app.handler", "def handler(:\n", "\"errorType\": \"Runtime.UserCodeSyntaxError\""},
        {"app.other", "def handler(e, c): pass\n",
         "\"errorMessage\": \"Handler 'other' missing on module 'app'\", "
         "\"errorType\": \"Runtime.HandlerNotFound\""},
        {"nodot", "def handler(e, c): pass\n", "\"errorType\": \"Runtime.MalformedHandlerName\""},
        {"app.handler", "1 / 0\n", "\"errorType\": \"ZeroDivisionError\""},
        {"app.handler", "import os\nos._exit(3)\n",
         "\"errorType\":\"Runtime.ExitError\",\"errorMessage\":\"RequestId: "
         "8d3f6ad2-0000-4000-8000-000000000001 Error: Runtime exited with error: exit status 3\""},
    };
    struct fixture *f = *state;
    if (!has_runtime("python3.11"))
        return;
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        char name[32];
        snprintf(name, sizeof name, "py-init-%zu", i);
        struct function function = {.name = name,
                                    .runtime = "python3.11",
                                    .handler = rows[i].handler,
                                    .file = "app.py",
                                    .text = rows[i].text};
        expect(deploy_and_run(f, &function, "{}"), INIT, rows[i].part);
    }
}

static void python_finds_boto3_and_nested_handlers(void **state)
{
    static const struct function function = {.name = "py-nested",
                                             .runtime = "python3.11",
                                             .handler = "a/b.handler",
                                             .file = "a/b.py",
                                             .text = "def handler(event, context):\n"
                                                     "    try:\n"
                                                     "        import boto3\n"
                                                     "        client = boto3.client('sqs')\n"
                                                     "        return client.meta.endpoint_url\n"
                                                     "    except ImportError:\n"
                                                     "        return 'http://127.0.0.1:9324'\n"};
    struct fixture *f = *state;
    if (has_runtime("python3.11"))
        expect(deploy_and_run(f, &function, "{}"), OK, "\"http://127.0.0.1:9324\"");
}

static void node_runs_all_kinds_of_handlers(void **state)
{
    static const struct function common = {
        .name = "node-common",
        .runtime = "nodejs20.x",
        .handler = "index.handler",
        .file = "index.js",
        .text = "exports.handler = async (event, context) => {\n"
                "  console.log('got', event.n);\n"
                "  if (event.fail) throw new TypeError('bad thing');\n"
                "  if (event.exit) process.exit(9);\n"
                "  return { n: event.n + 1, id: context.awsRequestId };\n"
                "};\n"};
    static const struct function module = {
        .name = "node-module",
        .runtime = "nodejs20.x",
        .handler = "index.handler",
        .file = "index.mjs",
        .text = "import fs from 'node:fs';\n"
                "export const handler = (event, context, callback) => {\n"
                "  setTimeout(() => callback(null, typeof fs.readFileSync), 5);\n"
                "};\n"};
    static const struct function missing = {.name = "node-missing",
                                            .runtime = "nodejs20.x",
                                            .handler = "index.nothing",
                                            .file = "index.js",
                                            .text = "exports.handler = () => 1;\n"};
    struct fixture *f = *state;
    if (!has_runtime("nodejs20.x"))
        return;
    const struct seen_result *result = deploy_and_run(f, &common, "{\"n\": 1}");
    expect(result, OK, "{\"n\":2,\"id\":\"8d3f6ad2-");
    assert_non_null(strstr(result->tail, "\tINFO\tgot 1\n"));
    result = run(f, &common, "{\"n\": 1, \"fail\": true}");
    expect(result, HANDLED,
           "{\"errorType\":\"TypeError\",\"errorMessage\":\"bad thing\",\"trace\":[");
    assert_false(result->cold);
    expect(run(f, &common, "{\"n\": 1, \"exit\": true}"), CRASH, "exit status 9");
    expect(deploy_and_run(f, &module, "{}"), OK, "\"function\"");
    expect(deploy_and_run(f, &missing, "{}"), INIT,
           "{\"errorType\":\"Runtime.HandlerNotFound\",\"errorMessage\":\"index.nothing is "
           "undefined or not exported\"");
}

static void provided_runs_a_bootstrap(void **state)
{
    static const struct function shell = {
        .name = "shell",
        .runtime = "provided.al2023",
        .handler = "x",
        .file = "bootstrap",
        .text = "#!/usr/bin/python3\n"
                "import os, urllib.request as u, urllib.error\n"
                "base = 'http://' + os.environ['AWS_LAMBDA_RUNTIME_API'] + '/2018-06-01/runtime/'\n"
                "def post(path, body):\n"
                "    try:\n"
                "        with u.urlopen(base + path, body) as r: return r.status, r.read()\n"
                "    except urllib.error.HTTPError as e: return e.code, e.read()\n"
                "early = post('invocation/none/response', b'1')\n"
                "while True:\n"
                "    with u.urlopen(base + 'invocation/next') as r:\n"
                "        id = r.headers['Lambda-Runtime-Aws-Request-Id']; r.read()\n"
                "        arn = r.headers['Lambda-Runtime-Invoked-Function-Arn']\n"
                "    wrong = post('invocation/wrong/response', b'1')\n"
                "    lost = post('nothing', b'1')\n"
                "    good = post('invocation/' + id + '/response',\n"
                "        repr((early[0], b'InvalidStateTransition' in early[1], wrong[0],\n"
                "              b'InvalidRequestID' in wrong[1], lost[0], arn)).encode())\n"
                "    assert good[0] == 202 and b'\"status\":\"OK\"' in good[1], good\n"
                "    again = post('invocation/' + id + '/response', b'1')\n"
                "    assert again[0] == 403, again\n"};
    static const struct function none = {.name = "none",
                                         .runtime = "provided.al2023",
                                         .handler = "x",
                                         .file = "other",
                                         .text = "nothing"};
    struct fixture *f = *state;
    if (!has_runtime("python3.11"))
        return;
    expect(deploy_and_run(f, &shell, "{}"), OK,
           "(403, True, 400, True, 404, 'arn:aws:lambda:eu-central-1:000000000000:function:f')");
    const struct seen_result *second = run(f, &shell, "{}");
    expect(second, OK, "(403, True");
    assert_false(second->cold);
    expect(deploy_and_run(f, &none, "{}"), INIT, "Runtime.InvalidEntrypoint");
}

/* ---- tests: what functions cannot do ---- */

static void timeout_kills_the_whole_tree(void **state)
{
    static const struct function function = PYTHON("py-timeout-tree",
                                                   "import os, time\n"
                                                   "def handler(event, context):\n"
                                                   "    for i in range(3):\n"
                                                   "        if os.fork() == 0:\n"
                                                   "            os.setsid()\n"
                                                   "            if os.fork() == 0:\n"
                                                   "                while True: time.sleep(1)\n"
                                                   "            os._exit(0)\n"
                                                   "    print('forked')\n"
                                                   "    while True: time.sleep(1)\n",
                                                   .timeout_ms = 1000);
    struct fixture *f = *state;
    if (!has_runtime("python3.11"))
        return;
    deploy(f, function.file, function.text);
    uint64_t lease = assign(f, &function, "{}");
    WAIT_FOR(f, processes_with("py-timeout-tree") >= 4 || find_result(f, lease) != NULL);
    const struct seen_result *result = wait_result(f, lease);
    assert_string_equal(result->payload,
                        "{\"errorType\":\"Sandbox.Timedout\",\"errorMessage\":\"RequestId: "
                        "8d3f6ad2-0000-4000-8000-000000000001 Error: Task timed out after 1.00 "
                        "seconds\"}");
    assert_int_equal(result->outcome, TIMEOUT);
    assert_non_null(strstr(result->tail, "forked\n"));
    assert_non_null(strstr(result->tail, "Duration: 1000.00 ms"));
    assert_non_null(strstr(result->tail, "Status: timeout"));
    assert_int_equal(processes_with("py-timeout-tree"), 0);
}

static void fork_bomb_harms_nobody(void **state)
{
    static const struct function bomb = PYTHON("py-bomb",
                                               "import os\n"
                                               "def handler(event, context):\n"
                                               "    while True:\n"
                                               "        try: os.fork()\n"
                                               "        except OSError: pass\n",
                                               .timeout_ms = 1000);
    static const struct function calm = PYTHON("py-calm", "def handler(e, c): return 'calm'\n");
    struct fixture *f = *state;
    if (!has_runtime("python3.11"))
        return;
    if (!f->isolation.own_uids) {
        print_message("skipped: processes of functions cannot be counted apart here\n");
        return;
    }
    const struct seen_result *result = deploy_and_run(f, &bomb, "{}");
    assert_true(result->outcome == TIMEOUT || result->outcome == CRASH);
    assert_int_equal(processes_with("py-bomb"), 0);
    expect(deploy_and_run(f, &calm, "{}"), OK, "calm");
}

static void output_flood_is_cut(void **state)
{
    static const struct function function =
        PYTHON("py-flood", "import os\n"
                           "def handler(event, context):\n"
                           "    os.write(1, b'\\x1b[31mred\\x07\\n')\n"
                           "    block = b'y' * 65535 + b'\\n'\n"
                           "    for i in range(event): os.write(1, block)\n"
                           "    return 'done'\n");
    struct fixture *f = *state;
    char path[128];
    struct stat st;
    if (!has_runtime("python3.11"))
        return;
    const struct seen_result *result = deploy_and_run(f, &function, "8000");
    expect(result, OK, "done");
    assert_true(strlen(result->tail) <= 4096);
    assert_non_null(strstr(result->tail, "yyy\n[output truncated]\nEND RequestId"));
    result = run(f, &function, "0");
    expect(result, OK, "done");
    assert_non_null(strstr(result->tail, "\n[31mred\nEND RequestId"));
    snprintf(path, sizeof path, "%s/logs/py-flood.log", f->dir);
    WAIT_FOR(f, stat(path, &st) == 0 && st.st_size > (1 << 20));
    assert_true(st.st_size < (2 << 20));
}

static void memory_and_tmp_are_bounded(void **state)
{
    static const struct function function =
        PYTHON("py-memory",
               "import os\n"
               "def handler(event, context):\n"
               "    if event == 'tmp':\n"
               "        with open(os.environ['HOME'] + '/fill', 'wb') as out:\n"
               "            for i in range(2000): out.write(b'x' * (1 << 20))\n"
               "    kept = []\n"
               "    while True: kept.append(b'x' * (8 << 20))\n",
               .memory_mb = 128);
    struct fixture *f = *state;
    if (!has_runtime("python3.11"))
        return;
    if (f->isolation.cgroups.kind == CGROUP_NONE) {
        print_message("skipped: no control groups here\n");
        return;
    }
    expect(deploy_and_run(f, &function, "\"memory\""), CRASH, "signal: killed");
    const struct seen_result *result = run(f, &function, "\"tmp\"");
    /* In memory it is out of memory; on disk the file is as long as it may get. */
    if (result->outcome != CRASH)
        expect(result, HANDLED, "File too large");
    WAIT_FOR(f, result->outcome == HANDLED || processes_with("py-memory") == 0);
}

static void memory_is_watched_without_groups(void **state)
{
    static const struct function function = PYTHON("py-watched",
                                                   "import time\n"
                                                   "def handler(event, context):\n"
                                                   "    kept = bytearray(b'x' * (200 << 20))\n"
                                                   "    time.sleep(30)\n",
                                                   .memory_mb = 128);
    struct fixture *f = *state;
    if (!has_runtime("python3.11"))
        return;
    expect(deploy_and_run(f, &function, "{}"), CRASH, "signal: killed");
    assert_int_equal(processes_with("py-watched"), 0);
}

static void sandbox_hides_the_machine(void **state)
{
    static const struct function function = PYTHON(
        "py-look",
        "import os, ctypes, socket\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "def refused(call):\n"
        "    try: call()\n"
        "    except OSError: return True\n"
        "    return False\n"
        "def handler(event, context):\n"
        "    status = dict(l.split(':', 1) for l in open('/proc/self/status') if ':' in l)\n"
        "    return [os.getuid() != 0, status['CapEff'].strip() == '0' * 16,\n"
        "        status['NoNewPrivs'].strip() == '1',\n"
        "        sorted(os.listdir('/proc/self/fd'))[:3] == ['0', '1', '2'],\n"
        "        len(os.listdir('/proc/self/fd')) <= 5,\n"
        "        len([p for p in os.listdir('/proc') if p.isdigit()]) == 2,\n"
        "        not os.path.exists('/root') and not os.path.exists('/var/lib'),\n"
        "        refused(lambda: open('/var/task/new', 'w')),\n"
        "        refused(lambda: open('/usr/new', 'w')), refused(lambda: open('/new', 'w')),\n"
        "        libc.unshare(0x10000000) == -1, libc.ptrace(0, 0, 0, 0) == -1,\n"
        "        refused(lambda: socket.socket(40, socket.SOCK_STREAM)),\n"
        "        refused(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW)),\n"
        "        os.getcwd() == '/var/task', open('/tmp/x', 'w').write('x') == 1]\n");
    struct fixture *f = *state;
    if (!has_runtime("python3.11"))
        return;
    if (!f->isolation.namespaces) {
        print_message("skipped: no rights for namespaces here\n");
        return;
    }
    const struct seen_result *result = deploy_and_run(f, &function, "{}");
    expect(result, OK, "[true");
    if (strstr(result->payload, "false") != NULL)
        fail_msg("%s", result->payload);
}

/* A function may not ask for, or answer, another one's events, though it can reach the port. */
static void strangers_cannot_speak_to_a_runtime_api(void **state)
{
    static const struct function victim =
        PYTHON("py-victim", "import os, time\n"
                            "print('API', os.environ['AWS_LAMBDA_RUNTIME_API'])\n"
                            "def handler(e, c):\n"
                            "    if e == 'port': return os.environ['AWS_LAMBDA_RUNTIME_API']\n"
                            "    time.sleep(1.5)\n"
                            "    return 'mine'\n");
    static const struct function thief =
        PYTHON("py-thief",
               "import urllib.request as u, urllib.error\n"
               "def handler(e, c):\n"
               "    try:\n"
               "        u.urlopen('http://' + e + '/2018-06-01/runtime/invocation/'\n"
               "                  '8d3f6ad2-0000-4000-8000-000000000001/response', b'stolen')\n"
               "    except urllib.error.HTTPError as error: return error.code\n");
    struct fixture *f = *state;
    if (!has_runtime("python3.11"))
        return;
    if (!f->isolation.own_uids) {
        print_message("skipped: no users of their own here\n");
        return;
    }
    char port[64];
    snprintf(port, sizeof port, "%s", deploy_and_run(f, &victim, "\"port\"")->payload);
    uint64_t slow = assign(f, &victim, "\"slow\"");
    expect(deploy_and_run(f, &thief, port), OK, "403");
    expect(wait_result(f, slow), OK, "mine");
}

/* ---- tests: the worker's own life ---- */

static void idle_environments_go_away(void **state)
{
    static const struct function function = PYTHON("py-idle", "def handler(e, c): return 1\n");
    struct fixture *f = fixture_new(&whole_isolation);
    (void)state;
    open_worker(f, 1000, 8);
    if (has_runtime("python3.11")) {
        expect(deploy_and_run(f, &function, "{}"), OK, "1");
        WAIT_FOR(f, f->capacity->n_warm == 1);
        assert_string_equal(f->capacity->warm[0]->function, "py-idle");
        assert_int_equal(f->capacity->slots_free, 8);
        assert_true(processes_with("py-idle") > 0);
        WAIT_FOR(f, f->capacity->memory_free_bytes == 2048ull << 20 && f->capacity->n_warm == 0 &&
                        processes_with("py-idle") == 0);
    }
    fixture_free(f);
}

static void a_full_worker_evicts_and_waits(void **state)
{
    static const struct function one = PYTHON("py-one", "def handler(e, c): return 1\n");
    static const struct function two = PYTHON("py-two", "def handler(e, c): return 2\n");
    struct fixture *f = fixture_new(&whole_isolation);
    (void)state;
    open_worker(f, 60000, 1);
    if (has_runtime("python3.11")) {
        expect(deploy_and_run(f, &one, "{}"), OK, "1");
        uint64_t first, second;
        deploy(f, two.file, two.text);
        first = assign(f, &two, "{}");
        second = assign(f, &two, "{}");
        expect(wait_result(f, first), OK, "2");
        const struct seen_result *result = wait_result(f, second);
        expect(result, OK, "2");
        assert_false(result->cold);
        assert_int_equal(processes_with("py-one"), 0);
    }
    fixture_free(f);
}

static void bad_orders_change_nothing(void **state)
{
    struct fixture *f = *state;
    struct function function = PYTHON("py-bad", "def handler(e, c): return 1\n");
    deploy(f, function.file, function.text);
    function.name = "../../evil";
    expect(run(f, &function, "{}"), REJECTED, "no valid function");
    function.name = "py-bad";
    function.runtime = "cobol85";
    expect(run(f, &function, "{}"), REJECTED, "does not have the runtime");
    function.runtime = "provided.al2023";
    function.memory_mb = 10000;
    expect(run(f, &function, "{}"), REJECTED, "more memory than this worker");
    function.memory_mb = 128;
    f->refusals_of_code = 1;
    expect(run(f, &function, "{}"), REJECTED, "could not be fetched");
    f->sha256[0] ^= 1;
    expect(run(f, &function, "{}"), INIT, "damaged");
    buffer_clear(&f->zip);
    buffer_add_text(&f->zip, "this is no zip");
    digest_sha256(buffer_slice(&f->zip), f->sha256);
    expect(run(f, &function, "{}"), INIT, "damaged");
    WAIT_FOR(f, f->capacity->slots_free == 8);
}

static void a_lost_session_is_made_again(void **state)
{
    static const struct function function = PYTHON("py-again", "def handler(e, c): return 1\n");
    struct fixture *f = *state;
    link_close(f->link);
    WAIT_FOR(f, f->link == NULL);
    WAIT_FOR(f, f->sessions == 2);
    if (has_runtime("python3.11"))
        expect(deploy_and_run(f, &function, "{}"), OK, "1");
}

static void a_cancelled_run_is_stopped(void **state)
{
    static const struct function function = PYTHON(
        "py-cancel", "import time\ndef handler(e, c): time.sleep(60)\n", .timeout_ms = 60000);
    struct fixture *f = *state;
    Millrace__Cancel cancel = MILLRACE__CANCEL__INIT;
    if (!has_runtime("python3.11"))
        return;
    deploy(f, function.file, function.text);
    cancel.lease_id = assign(f, &function, "{}");
    WAIT_FOR(f, processes_with("py-cancel") > 0);
    broker_send(f, MILLRACE__TYPE__TYPE_CANCEL, &cancel.base);
    assert_int_equal(wait_result(f, cancel.lease_id)->outcome, CRASH);
    assert_int_equal(processes_with("py-cancel"), 0);
}

static void draining_lets_runs_end(void **state)
{
    static const struct function function = PYTHON(
        "py-drain", "import time\ndef handler(e, c):\n    time.sleep(1)\n    return 'ended'\n");
    struct fixture *f = fixture_new(&whole_isolation);
    (void)state;
    open_worker(f, 60000, 8);
    if (has_runtime("python3.11")) {
        deploy(f, function.file, function.text);
        uint64_t lease = assign(f, &function, "{}");
        WAIT_FOR(f, processes_with("py-drain") > 0);
        struct worker *worker = f->worker;
        f->worker = NULL;
        worker_drain(worker, 30000, on_closed, f);
        WAIT_FOR(f, f->closed);
        assert_true(f->drained);
        expect(wait_result(f, lease), OK, "ended");
        assert_int_equal(processes_with("py-drain"), 0);
    }
    fixture_free(f);
}

static void the_data_folder_has_one_worker(void **state)
{
    struct fixture *f = *state;
    struct worker *second = NULL;
    struct worker_options options = {.loop = &f->loop,
                                     .launcher = f->launcher,
                                     .isolation = &f->isolation,
                                     .runtimes = &all_runtimes,
                                     .addresses = &f->address,
                                     .address_count = 1,
                                     .data_dir = f->dir,
                                     .memory_bytes = 1u << 30,
                                     .environments_max = 1,
                                     .keep_alive_ms = 1000,
                                     .init_timeout_ms = 1000};
    assert_int_equal(worker_open(&second, &options), STATUS_LOCKED);
}

/* live_and_run: a whole worker in a process of its own, to be killed. */
static void live_and_run(const struct isolation *isolation, int ready_fd)
{
    static const struct function function = PYTHON("py-orphan",
                                                   "import os, time\n"
                                                   "def handler(e, c):\n"
                                                   "    if os.fork() == 0:\n"
                                                   "        os.setsid()\n"
                                                   "    while True: time.sleep(1)\n",
                                                   .timeout_ms = 60000);
    struct fixture *f = fixture_new(isolation);
    open_worker(f, 60000, 8);
    deploy(f, function.file, function.text);
    assign(f, &function, "{}");
    WAIT_FOR(f, processes_with("py-orphan") >= 2);
    assert_int_equal(write(ready_fd, f->dir, sizeof f->dir), sizeof f->dir);
    for (;;)
        uv_run(&f->loop, UV_RUN_DEFAULT);
}

static void kill_and_look(const struct isolation *isolation)
{
    int ready[2];
    char dir[64] = "";
    if (!has_runtime("python3.11"))
        return;
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* also when this test fails half-way */
        live_and_run(isolation, ready[1]);
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], dir, sizeof dir), sizeof dir);
    close(ready[0]);
    assert_true(processes_with("py-orphan") >= 2);
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    unsigned left = 1;
    for (int i = 0; i < 1000 && left > 0; i++) {
        left = processes_with("py-orphan");
        usleep(10000);
    }
    assert_int_equal(left, 0);
    assert_int_equal(file_tree_remove(dir), STATUS_OK);
}

static void a_killed_worker_leaves_nothing(void **state)
{
    (void)state;
    kill_and_look(&whole_isolation);
}

static void a_killed_worker_leaves_nothing_bare(void **state)
{
    struct isolation bare = whole_isolation;
    (void)state;
    bare.namespaces = false;
    bare.cgroups.kind = CGROUP_NONE;
    kill_and_look(&bare);
}

int main(void)
{
    trace_configure(getenv("MILLRACE_TRACE") != NULL ? TRACE_DEBUG : TRACE_ERROR, false);
    signal(SIGPIPE, SIG_IGN);
    isolation_probe(&whole_isolation);
    print_message("isolation: %s\n", whole_isolation.text);
    runtimes_find(&all_runtimes);
#define WITH(test, up) cmocka_unit_test_setup_teardown(test, up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH(python_succeeds_and_stays_warm, set_up),
        WITH(python_errors_are_reported, set_up),
        WITH(python_init_errors_are_named, set_up),
        WITH(python_finds_boto3_and_nested_handlers, set_up),
        WITH(node_runs_all_kinds_of_handlers, set_up),
        WITH(provided_runs_a_bootstrap, set_up),
        WITH(timeout_kills_the_whole_tree, set_up),
        WITH(fork_bomb_harms_nobody, set_up),
        WITH(output_flood_is_cut, set_up),
        WITH(memory_and_tmp_are_bounded, set_up),
        WITH(sandbox_hides_the_machine, set_up),
        WITH(strangers_cannot_speak_to_a_runtime_api, set_up),
        WITH(bad_orders_change_nothing, set_up),
        WITH(a_lost_session_is_made_again, set_up),
        WITH(a_cancelled_run_is_stopped, set_up),
        WITH(the_data_folder_has_one_worker, set_up),
        WITH(python_succeeds_and_stays_warm, set_up_bare),
        WITH(timeout_kills_the_whole_tree, set_up_bare),
        WITH(fork_bomb_harms_nobody, set_up_bare),
        WITH(memory_is_watched_without_groups, set_up_bare),
        WITH(memory_is_watched_without_groups, set_up_ungrouped),
        WITH(node_runs_all_kinds_of_handlers, set_up_bare),
        WITH(python_succeeds_and_stays_warm, set_up_same_user),
        WITH(timeout_kills_the_whole_tree, set_up_same_user),
        cmocka_unit_test(idle_environments_go_away),
        cmocka_unit_test(a_full_worker_evicts_and_waits),
        cmocka_unit_test(draining_lets_runs_end),
        cmocka_unit_test(a_killed_worker_leaves_nothing),
        cmocka_unit_test(a_killed_worker_leaves_nothing_bare),
    };
    own_region(); /* before anything is forked */
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    isolation_deinit(&whole_isolation);
    return failed;
}
