# SPDX-License-Identifier: Apache-2.0
"""The Python runtime: asks the Runtime API for events and calls the handler with them.

It speaks HTTP over a plain socket, because importing http.client would cost every cold start 20 ms.
What a function can see of it (context, error objects, messages) is what AWS Lambda's shows.
"""
import _socket
import json
import os
import sys
import time

API = os.environ["AWS_LAMBDA_RUNTIME_API"]
TASK_ROOT = os.environ["LAMBDA_TASK_ROOT"]
BASE = "/2018-06-01/runtime/"


class Api:
    """One keep-alive connection to the Runtime API."""

    def __init__(self):
        self.host, _, port = API.rpartition(":")
        self.port = int(port)
        self.socket = None
        self.rest = b""

    def connect(self):
        self.socket = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        self.socket.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        self.socket.connect((self.host, self.port))
        self.rest = b""

    def close(self):
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def more(self):
        piece = self.socket.recv(262144)
        if not piece:
            raise ConnectionError("the Runtime API closed the connection")
        return piece

    def receive(self):
        data = self.rest
        while b"\r\n\r\n" not in data:
            data += self.more()
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        status = int(lines[0].split(" ", 2)[1])
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        length = int(headers.get("content-length", "0"))
        pieces = [body]
        have = len(body)
        while have < length:
            piece = self.more()
            pieces.append(piece)
            have += len(piece)
        body = b"".join(pieces)
        self.rest = body[length:]
        if headers.get("connection", "").lower() == "close":
            self.close()
        return status, headers, body[:length]

    def call(self, method, path, body=b"", extra=""):
        head = (
            f"{method} {BASE}{path} HTTP/1.1\r\nHost: {API}\r\n{extra}"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode("latin-1")
        if self.socket is None:
            self.connect()
        try:
            self.socket.sendall(head + body)
        except OSError:
            # A refused body (413) is answered before it is read: the answer is there already.
            pass
        try:
            return self.receive()
        except OSError:
            self.close()
            if method == "GET":
                raise
            return 0, {}, b""


class Identity:
    cognito_identity_id = None
    cognito_identity_pool_id = None


class ClientInfo:
    """What a mobile client says about itself."""

    def __init__(self, told):
        for name in ("installation_id", "app_title", "app_version_name", "app_version_code",
                     "app_package_name"):
            setattr(self, name, told.get(name))


class ClientContext:
    """What the caller gave as its context; a part that is missing is None."""

    def __init__(self, told):
        self.custom = told.get("custom")
        self.env = told.get("env")
        client = told.get("client")
        self.client = ClientInfo(client) if isinstance(client, dict) else None


def client_context(text):
    """None if the caller gave none, or something that is no JSON object."""
    try:
        told = json.loads(text)
    except ValueError:
        return None
    return ClientContext(told) if isinstance(told, dict) else None


class Context:
    """The handler's second argument."""

    def __init__(self, headers):
        env = os.environ
        self.aws_request_id = headers["lambda-runtime-aws-request-id"]
        self.invoked_function_arn = headers.get("lambda-runtime-invoked-function-arn", "")
        self.function_name = env["AWS_LAMBDA_FUNCTION_NAME"]
        self.function_version = env["AWS_LAMBDA_FUNCTION_VERSION"]
        self.memory_limit_in_mb = env["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]
        self.log_group_name = env["AWS_LAMBDA_LOG_GROUP_NAME"]
        self.log_stream_name = env["AWS_LAMBDA_LOG_STREAM_NAME"]
        self.tenant_id = None
        self.identity = Identity()
        self.client_context = client_context(headers.get("lambda-runtime-client-context", ""))
        self._deadline_ms = int(headers.get("lambda-runtime-deadline-ms", "0"))

    def get_remaining_time_in_millis(self):
        return max(self._deadline_ms - int(time.time() * 1000), 0)

    def log(self, message):
        sys.stdout.write(str(message))


class RequestIdFilter:
    """Gives log records the request id, as a logging.Filter would."""

    request_id = ""

    def filter(self, record):
        record.aws_request_id = self.request_id
        return True


class ImportHook:
    """Runs something right after a module is first imported: functions that do not use it need not
    wait for it."""

    def __init__(self, actions):
        self.actions = actions

    def find_spec(self, name, path=None, target=None):
        action = self.actions.pop(name, None)
        if action is None:
            return None
        from importlib.machinery import PathFinder

        spec = PathFinder.find_spec(name, path)
        if spec is None:
            return None
        run_module = spec.loader.exec_module

        def exec_module(module):
            run_module(module)
            action(module)

        spec.loader.exec_module = exec_module
        return spec


def use_own_endpoint(module):
    """Old botocores (before 1.31, such as Debian 12's) do not know AWS_ENDPOINT_URL: they would talk
    to the wrong cloud."""
    create_client = module.Session.create_client

    def create(self, service_name, region_name=None, api_version=None, use_ssl=True, verify=None,
               endpoint_url=None, *args, **kwargs):
        if endpoint_url is None:
            name = "AWS_ENDPOINT_URL_" + service_name.upper().replace("-", "_").replace(" ", "_")
            endpoint_url = os.environ.get(name) or os.environ.get("AWS_ENDPOINT_URL")
        return create_client(self, service_name, region_name, api_version, use_ssl, verify,
                             endpoint_url, *args, **kwargs)

    module.Session.create_client = create


def set_up_logging(logging, state):
    handler = logging.StreamHandler(sys.stdout)
    formatter = logging.Formatter(
        "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s",
        "%Y-%m-%dT%H:%M:%S",
    )
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    handler.addFilter(state)
    level = os.environ.get("AWS_LAMBDA_LOG_LEVEL", "").upper()
    logging.root.addHandler(handler)
    logging.root.setLevel(level if level in ("DEBUG", "INFO", "WARNING", "ERROR") else "WARNING")


def stack_of(error):
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    # The runtime's own frames and the import machinery's tell a function's author nothing.
    hidden = (__file__, "<frozen importlib._bootstrap>", "<frozen importlib._bootstrap_external>")
    return [line for frame in frames if frame.filename not in hidden
            for line in traceback.format_list([frame])]


def error_object(message, kind, stack, request_id=None):
    made = {"errorMessage": message, "errorType": kind, "requestId": request_id or "",
            "stackTrace": stack}
    return json.dumps(made).encode()


def print_error(message, kind, stack):
    text = f"[ERROR] {kind}: {message}\n"
    if stack:
        text += "Traceback (most recent call last):\n" + "".join(stack)
    sys.stdout.write(text if text.endswith("\n") else text + "\n")
    sys.stdout.flush()


def fail_init(api, message, kind, stack=()):
    stack = list(stack)
    print_error(message, kind, stack)
    api.call("POST", "init/error", error_object(message, kind, stack),
             f"Lambda-Runtime-Function-Error-Type: {kind}\r\n")
    sys.exit(1)


def load_handler(api):
    name = os.environ.get("_HANDLER", "")
    module_name, dot, function_name = name.rpartition(".")
    if not dot or not module_name:
        fail_init(api, f"Bad handler '{name}': not enough values to unpack (expected 2, got 1)",
                  "Runtime.MalformedHandlerName")
    import importlib

    try:
        module = importlib.import_module(module_name.replace("/", "."))
    except ImportError as error:
        fail_init(api, f"Unable to import module '{module_name}': {error}",
                  "Runtime.ImportModuleError", stack_of(error))
    except SyntaxError as error:
        stack = [f'  File "{error.filename}" Line {error.lineno}\n    {error.text}\n']
        fail_init(api, f"Syntax error in module '{module_name}': {error}",
                  "Runtime.UserCodeSyntaxError", stack)
    except SystemExit:
        raise
    except BaseException as error:
        fail_init(api, str(error), type(error).__name__, stack_of(error))
    handler = getattr(module, function_name, None)
    if not callable(handler):
        fail_init(api, f"Handler '{function_name}' missing on module '{module_name}'",
                  "Runtime.HandlerNotFound")
    return handler


def plain(value):
    import decimal

    if isinstance(value, decimal.Decimal):
        return float(value)
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def run(handler, headers, body):
    """One invocation: the path to answer on, the answer, and extra headers."""
    request_id = headers["lambda-runtime-aws-request-id"]
    try:
        try:
            event = json.loads(body)
        except ValueError as error:
            raise ValueError(f"Unable to unmarshal input: {error}") from error
        result = handler(event, Context(headers))
    except Exception as error:
        kind, message, stack = type(error).__name__, str(error), stack_of(error)
    else:
        try:
            answer = json.dumps(result, ensure_ascii=False, default=plain).encode("utf-8")
            return f"invocation/{request_id}/response", answer, "Content-Type: application/json\r\n"
        except (TypeError, ValueError, RecursionError) as error:
            kind, stack = "Runtime.MarshalError", []
            message = f"Unable to marshal response: {error}"
    print_error(message, kind, stack)
    header = kind if kind.startswith("Runtime.") else "Function." + kind
    return (f"invocation/{request_id}/error", error_object(message, kind, stack, request_id),
            f"Lambda-Runtime-Function-Error-Type: {header}\r\n")


def main():
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    sys.stderr.reconfigure(line_buffering=True)
    sys.path[0] = TASK_ROOT
    api = Api()
    state = RequestIdFilter()
    sys.meta_path.insert(0, ImportHook({
        "logging": lambda module: set_up_logging(module, state),
        "botocore.session": use_own_endpoint,
    }))
    handler = load_handler(api)
    while True:
        status, headers, body = api.call("GET", "invocation/next")
        if status != 200:
            sys.exit(1)
        state.request_id = headers["lambda-runtime-aws-request-id"]
        trace_id = headers.get("lambda-runtime-trace-id")
        if trace_id:
            os.environ["_X_AMZN_TRACE_ID"] = trace_id
        path, answer, extra = run(handler, headers, body)
        sys.stdout.flush()
        sys.stderr.flush()
        api.call("POST", path, answer, extra)


if __name__ == "__main__":
    main()
