/* SPDX-License-Identifier: Apache-2.0 */
/* The control law of event sources.
 *
 * Two needs add up. To keep pace with arrivals takes (Little's law) arrivals x duration / batch
 * fill environments, with some head room. To drain what has piled up takes (batches waiting) x
 * duration / (time left) more, where the time left is half of the age that messages may reach. So
 * concurrency follows work and not a ramp: a burst is met at once, a trickle keeps one environment
 * busy, and nothing runs when there is nothing to do.
 *
 * It refuses to ask for more batches than there is work for (I1), because each would receive
 * nothing and hold a slot that another function could use. There is no fast-window arrival rate on
 * top: the burst is in the backlog already and would be counted twice.
 *
 *   I1  target <= running + ceil(visible / batch_size)
 *   I2  target <= concurrency_max, where that is set and running does not exceed it already
 *   I3  visible == 0 and running == 0 give target 0
 */
#include "broker/dispatch/scaling.h"

#include "proto/base/assert.h"

#define SCALING_ARRIVALS_S    60.0 /* window of the arrival rate */
#define SCALING_DURATION_GAIN 0.2  /* weight of the newest batch */
#define SCALING_DURATION_S    1.0  /* assumed before the first batch ended */
#define SCALING_UTILISATION   0.8  /* head room for uneven arrivals */
#define SCALING_AGE_TARGET_S  5.0  /* the age that messages should not exceed */
#define SCALING_TIME_LEFT_S   0.2  /* floor of the time to drain in */
#define SCALING_START         5u   /* batches at once without asking further, as AWS starts with */
#define SCALING_SMALL         4u   /* backlogs of so many batches are simply run */
#define SCALING_PANIC_MS      30000u
#define SCALING_PANIC_FALL    0.9 /* while messages are late, fall by no more than a tenth a step */
#define SCALING_MAX           1e6

static double larger(double a, double b)
{
    return a > b ? a : b;
}

static double smaller(double a, double b)
{
    return a < b ? a : b;
}

void scaling_init(struct scaling *scaling, uint32_t batch_size)
{
    ASSERT(batch_size > 0);
    *scaling = (struct scaling){.duration_s = SCALING_DURATION_S, .fill = batch_size};
}

void scaling_batch_done(struct scaling *scaling, double duration_s, uint32_t messages)
{
    double gain = SCALING_DURATION_GAIN;
    scaling->duration_s += gain * (larger(duration_s, 0.001) - scaling->duration_s);
    scaling->fill += gain * (larger(messages, 1.0) - scaling->fill);
}

/* Smooth the arrival rate. The weight dt / (window + dt) is the implicit-Euler form of the
 * exponential one, and needs no exp(). */
static void scaling_observe(struct scaling *scaling, const struct scaling_input *input)
{
    if (scaling->updated_ms == 0 || input->sent_total < scaling->sent_total) {
        scaling->updated_ms = input->now_ms;
        scaling->sent_total = input->sent_total;
    }
    if (input->now_ms <= scaling->updated_ms)
        return;
    double dt = (double)(input->now_ms - scaling->updated_ms) / 1000.0;
    double rate = (double)(input->sent_total - scaling->sent_total) / dt;
    scaling->arrivals_per_s += dt / (SCALING_ARRIVALS_S + dt) * (rate - scaling->arrivals_per_s);
    scaling->updated_ms = input->now_ms;
    scaling->sent_total = input->sent_total;
}

/* What arrivals and backlog ask for, before any cap. */
static double scaling_need(const struct scaling *scaling, const struct scaling_input *input,
                           double work)
{
    double age_s = (double)input->oldest_age_ms / 1000.0;
    double left_s = larger(0.5 * SCALING_AGE_TARGET_S - age_s, 0.25 * SCALING_AGE_TARGET_S);
    left_s = larger(left_s, SCALING_TIME_LEFT_S);
    double pace = scaling->arrivals_per_s * scaling->duration_s /
                  (larger(scaling->fill, 1.0) * SCALING_UTILISATION);
    double drain = work * scaling->duration_s / left_s;
    double need = larger(pace + drain, SCALING_START);
    if (work <= SCALING_SMALL)
        need = larger(need, input->running + work);
    return need;
}

uint32_t scaling_target(struct scaling *scaling, const struct scaling_input *input)
{
    ASSERT(input->batch_size > 0);
    scaling_observe(scaling, input);
    double work = (double)(input->visible / input->batch_size) +
                  (input->visible % input->batch_size != 0 ? 1.0 : 0.0);
    double target = scaling_need(scaling, input, work);
    if (input->visible > 0 && (double)input->oldest_age_ms > 0.5 * SCALING_AGE_TARGET_S * 1000.0)
        scaling->panic_until_ms = input->now_ms + SCALING_PANIC_MS;
    if (input->now_ms < scaling->panic_until_ms)
        target = larger(target, scaling->target * SCALING_PANIC_FALL);
    target = smaller(target, input->running + work); /* I1 */
    if (input->concurrency_max > 0)
        target = smaller(target, input->concurrency_max); /* I2 */
    target = smaller(target, SCALING_MAX);
    uint32_t whole = (uint32_t)target;
    scaling->target = (double)whole < target ? whole + 1 : whole;
    return scaling->target;
}
