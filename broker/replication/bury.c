/* SPDX-License-Identifier: Apache-2.0 */
/* What is left of purged and deleted queues goes a little at a time (core_bury). Each message costs
 * some 0.2 to 0.5 us, for it lies in memory that is cold: so much of it in one turn of the loop
 * would hold up whoever waits for an answer, and would do so on all nodes at the same moment. */
#include "broker/replication/internal.h"

#define PIECE_MESSAGES 256u
#define PAUSE_MS       1u /* the loop does what else there is to do between two pieces */

static void on_bury_timer(uv_timer_t *timer)
{
    struct shard *shard = timer->data;
    if (!shard->guard.frozen)
        core_bury(shard->core, PIECE_MESSAGES);
    bury_arm(shard);
}

void bury_arm(struct shard *shard)
{
    if (core_bury_left(shard->core) > 0 && !uv_is_active((uv_handle_t *)&shard->bury_timer))
        uv_timer_start(&shard->bury_timer, on_bury_timer, PAUSE_MS, 0);
}
