/* SPDX-License-Identifier: Apache-2.0 */
/* Opening, and the first moments: a timer looks until the shard is ready and the root key is in the
 * catalog. If signatures are required and there is no key at all, nobody could get in, not even to
 * make a key; that is said after a few seconds (another node of a new cluster may bring one). */
#include "broker/auth/internal.h"

#include "proto/base/assert.h"
#include "proto/base/trace.h"

#include <stdlib.h>

#define STEP_MS      50
#define NO_KEY_MS    2000
#define TICKS_NO_KEY (NO_KEY_MS / STEP_MS)

static void look_for_keys(struct auth *auth)
{
    if (auth->options.mode != AUTH_REQUIRED || keys_any(auth)) {
        auth->root_done = true;
    } else if (++auth->ticks >= TICKS_NO_KEY) {
        auth->root_done = true;
        auth->options.no_key(auth->options.data);
    }
}

static void on_step(uv_timer_t *timer)
{
    struct auth *auth = timer->data;
    if (!shard_ready(auth->options.shard))
        return;
    if (auth->options.root_id != NULL)
        root_key_step(auth);
    else
        look_for_keys(auth);
    if (auth->root_done)
        uv_timer_stop(timer);
}

struct auth *auth_open(const struct auth_options *options)
{
    struct auth *auth = calloc(1, sizeof *auth);
    ASSERT(auth != NULL);
    auth->options = *options;
    ASSERT(uv_timer_init(options->loop, &auth->timer) == 0);
    auth->timer.data = auth;
    ASSERT(uv_timer_start(&auth->timer, on_step, 0, STEP_MS) == 0);
    return auth;
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct auth *auth = handle->data;
    void (*closed)(void *data) = auth->closed;
    void *data = auth->closed_data;
    keys_free(auth);
    queue_policies_free(auth);
    buffer_free(&auth->scratch);
    free(auth);
    closed(data);
}

void auth_close(struct auth *auth, void (*closed)(void *data), void *data)
{
    auth->closed = closed;
    auth->closed_data = data;
    uv_close((uv_handle_t *)&auth->timer, on_timer_closed);
}

bool auth_required(const struct auth *auth)
{
    return auth->options.mode == AUTH_REQUIRED;
}
