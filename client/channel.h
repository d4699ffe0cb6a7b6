/* SPDX-License-Identifier: Apache-2.0 */
/* libmillrace, the fast way in: a channel carries SQS calls over the native protocol
 * (proto/sqs/native.h), many at once. The actions, inputs, results and errors are those of
 * the SQS API, as structs (proto/sqs/shapes.h); a queue is addressed by its URL or simply by its
 * name.
 *
 *     struct mr_channel *channel;
 *     struct mr_channel_options options = {.brokers = "127.0.0.1:9325", .timeout_ms = 5000};
 *     if (mr_channel_open(&channel, &options, why) != STATUS_OK) ...
 *     struct sqs_send_message_input input = {.queue_url = SLICE_LITERAL("orders"),
 *                                            .body = SLICE_LITERAL("hi")};
 *     mr_channel_call(channel, SQS_ACTION_SendMessage, &input, on_sent, NULL);
 *     while (mr_channel_calls(channel) > 0)
 *         mr_channel_run(channel, 1000);
 *     mr_channel_close(channel);
 *
 * with
 *     static void on_sent(void *data, const struct mr_answer *answer)
 *     {
 *         const struct sqs_send_message_result *sent = answer->result; // NULL: see answer->status
 *     }
 *
 * Nothing happens but in mr_channel_run: it sends what was called, receives answers and calls back.
 * Calls may be made from within callbacks. A channel belongs to one thread at a time.
 *
 * A channel uses one broker of its list, its home, until an answer names another one of the list
 * as the one that leads the queue's shard: then it connects to that as well, and calls for this
 * queue go there, which costs the brokers less. Nothing but receives overtakes what was called for
 * the queue before. It is enough if one broker of the list can be reached.
 *
 * When a broker goes away nobody knows whether the calls under way there were carried out. Those
 * that do no harm when they are done twice are made again at another broker, in the order in which
 * they were made: what reads, receives, deletes and changes visibility or settings, and sends to
 * FIFO queues, which know a message by its deduplication id (column `again` of
 * proto/sqs/sqs_actions.def). Others end with CLOSED, and only the caller knows whether to repeat
 * them: sends to standard queues (but see repeat_sends), DeleteQueue, PurgeQueue, permissions and
 * moves. So do those that find no broker in time (repeat_ms). A receive that is made again finds
 * other messages than those that the first one leased for nobody, which come back when their leases
 * run out; from a FIFO queue it gets the same ones if it has an attempt id.
 *
 * If it was home, another that is connected takes its place, or the channel connects to the next of
 * its list by itself, round and round, while it is run; calls made meanwhile end with UNAVAILABLE,
 * and were not sent. A key that is disabled while a channel is open has its calls refused by the
 * API, and is refused itself when the channel connects again. */
#ifndef CLIENT_CHANNEL_H
#define CLIENT_CHANNEL_H

#include "proto/base/status.h"
#include "proto/sqs/shapes.h"

#define MR_CHANNEL_BROKERS_MAX 16
#define MR_CHANNEL_CALLS_MAX   16384 /* under way at once; the caller keeps to it */
#define MR_REPEAT_MS           10000
#define MR_REPEAT_NEVER        UINT32_MAX

struct mr_channel;

/* How a call ended; valid during the callback.
 *   OK           done; `result` is the action's result struct, NULL if it has none
 *   INVALID      the API refused the call: `code` and `message` are the API's
 *   UNAVAILABLE  not done: there is no connection, or the broker cannot serve now (`code`)
 *   BUSY         not done: too much is unsent, or the broker throttles (`code`): try again
 *   CLOSED       the connection ended before the answer: perhaps done. Also when the call was made
 *                again, and that ended as UNAVAILABLE or BUSY (`code` and `message` say so)
 *   CORRUPT      the answer could not be read: perhaps done */
struct mr_answer {
    enum status status;
    const void *result;
    struct slice code;    /* "QueueDoesNotExist"; absent if the API gave none */
    struct slice message; /* one line for a person; absent likewise */
};
typedef void (*mr_answer_fn)(void *data, const struct mr_answer *answer);

struct mr_channel_options {
    const char *brokers; /* "host:port,host:port", RPC addresses */
    uint32_t timeout_ms; /* for a connection to be made */
    /* A call whose broker goes away is made again until so long after it was made; 0:
     * MR_REPEAT_MS, MR_REPEAT_NEVER: not at all. */
    uint32_t repeat_ms;
    bool repeat_sends; /* those to standard queues too: at least once, perhaps twice */
    /* Whose calls they are: an access key, which is proven to each broker without its secret being
     * sent (proto/sigv4/proof.h), and the region that it asks for. NULL: nobody's, and
     * us-east-1. */
    const char *access_key_id, *secret_access_key, *region;
    /* PEM files, to speak TLS as the brokers' --tls-dir wants it; all three, or NULL. */
    const char *ca_file, *certificate_file, *key_file;
};

#define MR_WHY_BYTES 512

/* mr_channel_open: connect to the first of the brokers that answers, trying each once. Options are
 * copied. errors, with a sentence in `why` (may be NULL) of the last one: INVALID (no such list, or
 * files of no use); PERMISSION (the key or the certificate was refused); UNAVAILABLE and others.
 * out is NULL then. */
MUST_CHECK enum status mr_channel_open(struct mr_channel **out,
                                       const struct mr_channel_options *options,
                                       char why[MR_WHY_BYTES]);

/* mr_channel_close: end calls under way with CLOSED, or with UNAVAILABLE if they were not sent yet
 * (calling back now), then free. Those callbacks make no calls. */
void mr_channel_close(struct mr_channel *channel);

/* mr_channel_call: begin one call; `input` is the action's input struct, copied. The callback comes
 * from mr_channel_run, once, whatever happens. */
void mr_channel_call(struct mr_channel *channel, enum sqs_action action, const void *input,
                     mr_answer_fn done, void *data);

/* mr_channel_run: send, receive and call back until a callback has been made or `timeout_ms` have
 * passed; 0 does what is possible without waiting. Returns the number of callbacks made. */
uint32_t mr_channel_run(struct mr_channel *channel, uint32_t timeout_ms);

/* mr_channel_fd: readable when mr_channel_run has something to do, for waiting in a loop of one's
 * own after mr_channel_run(channel, 0) has returned 0. */
int mr_channel_fd(const struct mr_channel *channel);

/* mr_channel_calls: under way. mr_channel_connected: calls made now would be sent.
 * mr_channel_broker: the address of home, where it is connected, or is about to be. mr_channel_why:
 * why the last connection to a home ended or could not be made, for a person; "" if none has. */
uint32_t mr_channel_calls(const struct mr_channel *channel);
bool mr_channel_connected(const struct mr_channel *channel);
const char *mr_channel_broker(const struct mr_channel *channel);
const char *mr_channel_why(const struct mr_channel *channel);

#endif
