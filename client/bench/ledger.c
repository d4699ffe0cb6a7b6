/* SPDX-License-Identifier: Apache-2.0 */
#include "client/bench/ledger.h"

#include "proto/base/assert.h"

#include <stdlib.h>
#include <string.h>

#define ACKED    1u
#define RECEIVED 2u
#define ROWS_MIN 65536u

void ledger_init(struct ledger *ledger, uint32_t groups)
{
    *ledger = (struct ledger){.group_count = groups};
    if (groups > 0) {
        ledger->group_last = calloc(groups, sizeof *ledger->group_last);
        ASSERT(ledger->group_last != NULL);
    }
}

void ledger_free(struct ledger *ledger)
{
    free(ledger->rows);
    free(ledger->group_last);
    *ledger = (struct ledger){0};
}

uint64_t ledger_send(struct ledger *ledger)
{
    if (ledger->sent == ledger->capacity) {
        uint64_t more = ledger->capacity > 0 ? ledger->capacity : ROWS_MIN;
        ledger->rows = realloc(ledger->rows, ledger->capacity + more);
        ASSERT(ledger->rows != NULL);
        memset(ledger->rows + ledger->capacity, 0, more);
        ledger->capacity += more;
    }
    return ledger->sent++;
}

void ledger_ack(struct ledger *ledger, uint64_t number)
{
    ASSERT(number < ledger->sent);
    if ((ledger->rows[number] & ACKED) == 0)
        ledger->acked++;
    ledger->rows[number] |= ACKED;
}

static void check_order(struct ledger *ledger, uint64_t number)
{
    uint64_t *last = &ledger->group_last[number % ledger->group_count];
    if (number + 1 <= *last)
        ledger->disordered++;
    else
        *last = number + 1;
}

bool ledger_receive(struct ledger *ledger, uint64_t number)
{
    if (number >= ledger->sent) {
        ledger->corrupt++;
        return false;
    }
    if ((ledger->rows[number] & RECEIVED) != 0) {
        ledger->duplicates++;
        return false;
    }
    if (ledger->group_last != NULL)
        check_order(ledger, number);
    ledger->rows[number] |= RECEIVED;
    ledger->received++;
    return true;
}

uint64_t ledger_lost(const struct ledger *ledger)
{
    uint64_t lost = 0;
    for (uint64_t i = 0; i < ledger->sent; i++)
        lost += (ledger->rows[i] & (ACKED | RECEIVED)) == ACKED;
    return lost;
}
