/* SPDX-License-Identifier: Apache-2.0 */
/* What clients did and saw, and whether that is what they were promised. Knows queues, messages and
 * times, and nothing of how they are kept: it shares no code with the engine.
 *
 * Times are nanoseconds of the world's clock, unless they are called cluster time: milliseconds
 * that the engine told. A message is known by its label, which its sender made up. */
#ifndef TESTS_SIM_CLUSTER_HISTORY_H
#define TESTS_SIM_CLUSTER_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LABEL_NONE UINT32_MAX

enum outcome {
    OUTCOME_OPEN,     /* no answer (yet): it may have happened, or may still happen */
    OUTCOME_DONE,     /* it has happened, with this result */
    OUTCOME_NOT_DONE, /* it was refused, and must never happen */
    OUTCOME_UNKNOWN   /* as OPEN, and the client has given up */
};

struct queue_promise {
    bool fifo;
    bool dedup_by_group;
    uint32_t receive_count_max; /* 0: none */
    int dead_letter;            /* number of the queue; -1: none */
};

struct sent {
    int queue;
    uint32_t group; /* 0: none */
    uint32_t dedup; /* 0: none */
    uint32_t delay_s;
    uint64_t called_ns;
    uint64_t answered_ns;
    uint64_t process; /* that took it, and the place among what it took; 0: none did */
    uint64_t taken;
    enum outcome outcome;
    bool duplicate;
    uint64_t seq;
};

/* One message in one receive. */
struct delivery {
    int queue;
    uint32_t label;
    uint64_t seq;
    uint32_t receive_count;
    uint32_t visibility_s; /* that was asked for */
    uint64_t sent_ms;      /* cluster time */
    uint64_t until_ms;     /* cluster time at which the lease ends */
    uint64_t called_ns;
    uint64_t answered_ns;
    uint32_t receive;      /* number of the receive */
    uint32_t place;        /* in its result */
    uint32_t called_epoch; /* world.epoch when it was called, */
    uint32_t epoch;        /* and when it was answered */
};

enum settle_kind { SETTLE_DELETE, SETTLE_VISIBILITY, SETTLE_PURGE };
struct settled {
    enum settle_kind kind;
    int queue;
    uint32_t label; /* LABEL_NONE: a purge */
    uint64_t seq;
    uint32_t receive_count;
    uint32_t visibility_s;
    uint64_t called_ns;
    uint64_t answered_ns;
    enum outcome outcome;
    bool took; /* DONE, and the result was OK */
};

void history_queue(int number, struct queue_promise promise);

/* history_send, history_settle: a call begins; the number is for its answer. */
uint32_t history_send(struct sent sent);
struct sent *history_sent(uint32_t label);
uint32_t history_settle(struct settled settled);
struct settled *history_settled(uint32_t number);
/* history_purged: someone may have purged this queue at that time or later. */
bool history_purged(int queue, uint64_t since_ns);
uint32_t history_receive(void);
void history_deliver(struct delivery delivery);

/* history_look: someone saw, after a call at this time, that so many messages had been stored in
 * this queue ever. */
void history_look(int queue, uint64_t called_ns, uint64_t sent_total);

/* history_judge: when everything has come to rest and all queues are empty; ends the run with
 * sim_fail where a promise was broken. */
void history_judge(void);

/* history_summary: how much there was. */
void history_summary(char *out, size_t length);

#endif
