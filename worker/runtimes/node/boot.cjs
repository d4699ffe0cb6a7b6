// SPDX-License-Identifier: Apache-2.0
// The Node.js runtime: asks the Runtime API for events and calls the handler with them. CommonJS and
// ES module handlers, async functions and callbacks. What a function can see of it (context, error
// objects, console lines) is what AWS Lambda's shows.
'use strict';

const http = require('node:http');
const path = require('node:path');
const fs = require('node:fs');
const util = require('node:util');
const { pathToFileURL } = require('node:url');

const [HOST, PORT] = process.env.AWS_LAMBDA_RUNTIME_API.split(':');
const ROOT = process.env.LAMBDA_TASK_ROOT;
const BASE = '/2018-06-01/runtime/';
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
let requestId = '';

function call(method, target, body, headers) {
  return new Promise((resolve, reject) => {
    const request = http.request({ host: HOST, port: PORT, method, path: BASE + target, agent,
      headers: { ...headers, 'Content-Length': body ? body.length : 0 } }, (response) => {
      const pieces = [];
      response.on('data', (piece) => pieces.push(piece));
      response.on('end', () => resolve({ status: response.statusCode, headers: response.headers,
        body: Buffer.concat(pieces) }));
      response.on('error', reject);
    });
    request.setTimeout(0);
    request.on('error', (error) => {
      // A refused body (413) may be cut off while it is being sent.
      if (method === 'POST') resolve({ status: 0, headers: {}, body: Buffer.alloc(0) });
      else reject(error);
    });
    request.end(body);
  });
}

// Lines reach the output before the answer does, so that they belong to their invocation.
function patchConsole() {
  const levels = { log: 'INFO', info: 'INFO', debug: 'DEBUG', warn: 'WARN', error: 'ERROR', trace: 'TRACE' };
  for (const [name, level] of Object.entries(levels)) {
    console[name] = (...words) => {
      const line = `${new Date().toISOString()}\t${requestId || 'undefined'}\t${level}\t${util.format(...words)}\n`;
      writeAll(1, line);
    };
  }
}

function writeAll(fd, text) {
  let rest = Buffer.from(text);
  while (rest.length > 0) {
    try {
      rest = rest.subarray(fs.writeSync(fd, rest));
    } catch (error) {
      if (error.code !== 'EAGAIN') return;
    }
  }
}

function errorObject(error) {
  if (error instanceof Error || util.types.isNativeError(error)) {
    return { errorType: error.name, errorMessage: error.message,
      trace: (error.stack || '').split('\n') };
  }
  return { errorType: typeof error, errorMessage: String(error), trace: [] };
}

class RuntimeError extends Error {
  constructor(kind, message) {
    super(message);
    this.name = kind;
  }
}

function moduleFile(base) {
  for (const ending of ['', '.js', '.mjs', '.cjs']) {
    const file = base + ending;
    if (fs.existsSync(file) && fs.statSync(file).isFile()) return file;
  }
  return null;
}

async function loadHandler() {
  const name = process.env._HANDLER || '';
  const folder = path.dirname(name);
  const match = /^([^.]*)\.(.+)$/.exec(path.basename(name));
  if (!match || name.includes('..')) {
    throw new RuntimeError('Runtime.MalformedHandlerName', `Bad handler: ${name}`);
  }
  const file = moduleFile(path.resolve(ROOT, folder, match[1]));
  if (file === null) {
    throw new RuntimeError('Runtime.ImportModuleError', `Error: Cannot find module '${match[1]}'`);
  }
  let loaded;
  try {
    loaded = await load(file);
  } catch (error) {
    if (error instanceof SyntaxError) throw new RuntimeError('Runtime.UserCodeSyntaxError', `SyntaxError: ${error.message}`);
    if (error && (error.code === 'MODULE_NOT_FOUND' || error.code === 'ERR_MODULE_NOT_FOUND')) {
      throw new RuntimeError('Runtime.ImportModuleError', `Error: ${error.message}`);
    }
    throw error;
  }
  const handler = match[2].split('.').reduce((object, key) => (object == null ? undefined : object[key]), loaded);
  if (typeof handler !== 'function') {
    throw new RuntimeError('Runtime.HandlerNotFound', `${name} is undefined or not exported`);
  }
  return handler;
}

async function load(file) {
  if (!file.endsWith('.mjs')) {
    try {
      return require(file);
    } catch (error) {
      // "type": "module" in package.json, or import and export in a .js file.
      const isModule = error && (error.code === 'ERR_REQUIRE_ESM' ||
        (error instanceof SyntaxError && /import statement|'export'|import\.meta/.test(error.message)));
      if (!isModule) throw error;
    }
  }
  return import(pathToFileURL(file).href);
}

function makeContext(headers, done) {
  const deadline = Number(headers['lambda-runtime-deadline-ms'] || 0);
  const env = process.env;
  const context = {
    awsRequestId: headers['lambda-runtime-aws-request-id'],
    invokedFunctionArn: headers['lambda-runtime-invoked-function-arn'],
    functionName: env.AWS_LAMBDA_FUNCTION_NAME,
    functionVersion: env.AWS_LAMBDA_FUNCTION_VERSION,
    memoryLimitInMB: env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: env.AWS_LAMBDA_LOG_STREAM_NAME,
    callbackWaitsForEmptyEventLoop: true,
    getRemainingTimeInMillis: () => Math.max(deadline - Date.now(), 0),
    done: (error, result) => done(error, result),
    fail: (error) => done(error === undefined || error === null ? 'handled' : error),
    succeed: (result) => done(null, result),
  };
  if (headers['lambda-runtime-client-context']) {
    context.clientContext = JSON.parse(headers['lambda-runtime-client-context']);
  }
  return context;
}

function runHandler(handler, event, headers) {
  return new Promise((resolve, reject) => {
    const done = (error, result) => (error !== undefined && error !== null ? reject(error) : resolve(result));
    let returned;
    try {
      returned = handler(event, makeContext(headers, done), done);
    } catch (error) {
      reject(error);
      return;
    }
    if (returned && typeof returned.then === 'function') {
      returned.then(resolve, reject);
    } else if (handler.length < 3) {
      // No callback taken: the value itself, or null once nothing is left to wait for.
      process.once('beforeExit', () => resolve(null));
      if (returned !== undefined) resolve(returned);
    } else {
      process.once('beforeExit', () => resolve(null));
    }
  });
}

function printError(error) {
  console.error(error && error.stack ? error.stack : error);
}

async function answer(handler, next) {
  const id = next.headers['lambda-runtime-aws-request-id'];
  let failure;
  try {
    const result = await runHandler(handler, JSON.parse(next.body.toString('utf8')), next.headers);
    let text;
    try {
      text = JSON.stringify(result === undefined ? null : result);
      if (text === undefined) text = 'null';
    } catch (error) {
      throw new RuntimeError('Runtime.MarshalError', `Unable to stringify response body: ${error.message}`);
    }
    await call('POST', `invocation/${id}/response`, Buffer.from(text), { 'Content-Type': 'application/json' });
    return;
  } catch (error) {
    failure = error;
  }
  printError(failure);
  const object = errorObject(failure);
  const type = /^[\w.]+$/.test(object.errorType) ? object.errorType : 'Error';
  await call('POST', `invocation/${id}/error`, Buffer.from(JSON.stringify(object)),
    { 'Lambda-Runtime-Function-Error-Type': type });
}

async function failInit(error) {
  printError(error);
  const object = errorObject(error);
  await call('POST', 'init/error', Buffer.from(JSON.stringify(object)), {});
  process.exit(1);
}

async function main() {
  patchConsole();
  let handler;
  try {
    handler = await loadHandler();
  } catch (error) {
    await failInit(error);
  }
  // An exception nobody caught ends the environment, as it would end any program.
  const fatal = async (error) => {
    const kind = error instanceof Error ? 'Runtime.UnhandledPromiseRejection' : 'Runtime.UnhandledError';
    printError(error);
    const object = { errorType: kind, errorMessage: String(error), trace: errorObject(error).trace };
    if (requestId) {
      await call('POST', `invocation/${requestId}/error`, Buffer.from(JSON.stringify(object)), {});
    }
    process.exit(129);
  };
  process.on('unhandledRejection', fatal);
  process.on('uncaughtException', fatal);
  for (;;) {
    requestId = '';
    const next = await call('GET', 'invocation/next');
    if (next.status !== 200) process.exit(1);
    requestId = next.headers['lambda-runtime-aws-request-id'];
    if (next.headers['lambda-runtime-trace-id']) {
      process.env._X_AMZN_TRACE_ID = next.headers['lambda-runtime-trace-id'];
    }
    process.removeAllListeners('beforeExit');
    await answer(handler, next);
  }
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
