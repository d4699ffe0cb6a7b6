/* SPDX-License-Identifier: Apache-2.0 */
/* Messages on their way out. A request is not copied: its letter borrows it from the question,
 * which does not end before. Cancellations and answers wait here while the network has no room:
 * nobody asks twice for them. */
#include "broker/away/internal.h"
#include "proto/base/assert.h"

#include <stdlib.h>
#include <utlist.h>

static void letter_free(struct letter *letter)
{
    struct away *away = letter->away;
    away->answer_count -= letter->answers;
    away->task_bytes -= letter->answer.length;
    buffer_free(&letter->answer);
    free(letter);
    if (--away->letter_count == 0 && away->closing)
        away_soon(away);
}

static void letter_done(struct peer_send *send, enum status status)
{
    struct letter *letter = send->data;
    struct away *away = letter->away;
    if (letter->asked == NULL && status == STATUS_BUSY && !away->closing) {
        DL_APPEND(away->delayed, letter);
        away_tick_awake(away);
        return;
    }
    if (letter->asked != NULL)
        asked_letter_done(letter, status);
    letter_free(letter); /* a lost connection is told by itself */
}

struct letter *letter_new(struct away *away, uint64_t node_id, const struct away_message *head)
{
    struct letter *letter = calloc(1, sizeof *letter);
    ASSERT(letter != NULL);
    away_encode(letter->head, head);
    letter->away = away;
    letter->answers = head->type == AWAY_ANSWER;
    away->answer_count += letter->answers;
    letter->node_id = node_id;
    letter->number = head->number;
    away->letter_count++;
    return letter;
}

void letter_send(struct letter *letter)
{
    struct slice body =
        letter->asked != NULL ? letter->asked->question->request : buffer_slice(&letter->answer);
    letter->parts[0] = (struct iovec){letter->head, AWAY_HEAD_BYTES};
    letter->parts[1] = (struct iovec){(void *)(uintptr_t)body.data, body.length};
    letter->send = (struct peer_send){.parts = letter->parts,
                                      .part_count = body.length > 0 ? 2 : 1,
                                      .done = letter_done,
                                      .data = letter};
    letter->away->task_bytes += letter->answer.length;
    peers_send(letter->away->options.peers, letter->node_id, PEER_CHANNEL_AWAY, &letter->send);
}

void letters_again(struct away *away)
{
    struct letter *list = away->delayed;
    away->delayed = NULL;
    while (list != NULL) {
        struct letter *letter = list;
        DL_DELETE(list, letter);
        if (away->closing)
            letter_free(letter);
        else
            peers_send(away->options.peers, letter->node_id, PEER_CHANNEL_AWAY, &letter->send);
    }
}
