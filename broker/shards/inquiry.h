/* SPDX-License-Identifier: Apache-2.0 */
/* What nodes ask each other about where a shard is, as bytes: messages on PEER_CHANNEL_SHARDS
 * (watch.c). Integers are little-endian:
 *
 *     u8 kind, u8 version (1), u16 shard, u64 number, u64 list (the version of the list that the
 *     sender goes by)
 *     STATE   then u64 leader, u64 last index, u32 count; each: u64 node, u8 role, u8 flags
 *             (1 connected), u16 zero, u64 lag
 *     MEMBER, OPEN   then u8 word (enum inquiry_word)
 *
 * Decoding accepts any bytes safely. thread: any. */
#ifndef BROKER_SHARDS_INQUIRY_H
#define BROKER_SHARDS_INQUIRY_H

#include "broker/shards/shards.h"

enum inquiry_kind {
    INQUIRY_ASK_STATE = 1, /* who leads the shard, and how are its members? */
    INQUIRY_STATE,
    INQUIRY_ASK_MEMBER, /* am I a member of it? Only its leader says. */
    INQUIRY_MEMBER,
    INQUIRY_ASK_OPEN, /* is a replica of it open there, which is to stay? */
    INQUIRY_OPEN,
    INQUIRY_KIND_COUNT
};

enum inquiry_word { INQUIRY_UNKNOWN, INQUIRY_YES, INQUIRY_NO, INQUIRY_WORD_COUNT };

struct inquiry {
    enum inquiry_kind kind;
    uint16_t shard;
    uint64_t number; /* of the question; its answer has the same */
    uint64_t list;
    enum inquiry_word word;
    struct shard_state state;
};

void inquiry_encode(struct buffer *out, const struct inquiry *inquiry);
/* inquiry_decode: INVALID; UNSUPPORTED: of a later version. */
MUST_CHECK enum status inquiry_decode(struct slice message, struct inquiry *out);

#endif
