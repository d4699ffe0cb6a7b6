/* SPDX-License-Identifier: Apache-2.0 */
/* Frames however they are cut, and greetings: what is told comes out again, what is odd does not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/peer/frame.h"
#include "broker/peer/handshake.h"
#include "proto/base/assert.h"
#include "proto/base/bytes.h"

#include <stdlib.h>

static void add_frame(struct buffer *out, uint16_t channel, size_t length)
{
    struct peer_frame frame = {.length = (uint32_t)length, .channel = channel};
    peer_frame_encode(buffer_reserve(out, PEER_FRAME_HEADER_BYTES), &frame);
    buffer_added(out, PEER_FRAME_HEADER_BYTES);
    for (size_t i = 0; i < length; i++)
        buffer_add_byte(out, (uint8_t)(channel + i));
}

static bool payload_is(const struct peer_frame *frame, struct slice payload)
{
    bool good = payload.length == frame->length;
    for (size_t i = 0; i < payload.length; i++)
        good = good && payload.data[i] == (uint8_t)(frame->channel + i);
    return good;
}

/* Feed all of `in` in pieces of at most `piece`; returns how many frames came out right. */
static unsigned feed(struct peer_frame_reader *reader, struct slice in, size_t piece)
{
    unsigned frames = 0;
    while (in.length > 0) {
        size_t room;
        uint8_t *at = peer_frame_reader_where(reader, &room);
        size_t count = in.length < piece ? in.length : piece;
        count = count < room ? count : room;
        memcpy(at, in.data, count);
        in = slice_sub(in, count);
        peer_frame_reader_came(reader, count);
        struct peer_frame frame;
        struct slice payload;
        while (peer_frame_reader_next(reader, &frame, &payload) == STATUS_OK) {
            assert_int_equal(frame.channel, frames + 1);
            assert_true(payload_is(&frame, payload));
            frames++;
        }
    }
    return frames;
}

static void test_any_cut(void **state)
{
    (void)state;
    static const size_t lengths[] = {0,     1,      7,     65527, 65528, 65529,  65536,
                                     70000, 300000, 65528, 3,     0,     2000000};
    static const size_t pieces[] = {7, 8, 1000, 65535, 65536, 1u << 22};
    struct buffer in = {0};
    for (size_t i = 0; i < ARRAY_COUNT(lengths); i++)
        add_frame(&in, (uint16_t)(i + 1), lengths[i]);
    for (size_t i = 0; i < ARRAY_COUNT(pieces); i++) {
        struct peer_frame_reader reader = {.length_max = 2000000};
        assert_int_equal(feed(&reader, buffer_slice(&in), pieces[i]), ARRAY_COUNT(lengths));
        peer_frame_reader_free(&reader);
    }
    buffer_free(&in);
}

/* A large payload is read into memory of exactly its size, and nothing behind it. */
static void test_large_is_read_in_place(void **state)
{
    (void)state;
    struct peer_frame_reader reader = {.length_max = 1u << 20};
    struct buffer in = {0};
    add_frame(&in, 1, 1u << 20);
    size_t room;
    memcpy(peer_frame_reader_where(&reader, &room), in.data, 8);
    peer_frame_reader_came(&reader, 8);
    struct peer_frame frame;
    struct slice payload;
    assert_int_equal(peer_frame_reader_next(&reader, &frame, &payload), STATUS_NOT_FOUND);
    uint8_t *at = peer_frame_reader_where(&reader, &room);
    assert_int_equal(room, 1u << 20);
    memcpy(at, in.data + 8, room);
    peer_frame_reader_came(&reader, room);
    assert_int_equal(peer_frame_reader_next(&reader, &frame, &payload), STATUS_OK);
    assert_ptr_equal(payload.data, at);
    assert_int_equal(peer_frame_reader_next(&reader, &frame, &payload), STATUS_NOT_FOUND);
    peer_frame_reader_free(&reader);
    buffer_free(&in);
}

static enum status judge(const uint8_t header[PEER_FRAME_HEADER_BYTES], uint32_t length_max)
{
    struct peer_frame_reader reader = {.length_max = length_max};
    size_t room;
    memcpy(peer_frame_reader_where(&reader, &room), header, PEER_FRAME_HEADER_BYTES);
    peer_frame_reader_came(&reader, PEER_FRAME_HEADER_BYTES);
    struct peer_frame frame;
    struct slice payload;
    enum status status = peer_frame_reader_next(&reader, &frame, &payload);
    assert_null(reader.large.data);
    peer_frame_reader_free(&reader);
    return status;
}

static void test_bad_headers(void **state)
{
    (void)state;
    uint8_t header[PEER_FRAME_HEADER_BYTES];
    peer_frame_encode(header, &(struct peer_frame){.length = 1025, .kind = PEER_FRAME_HELLO});
    assert_int_equal(judge(header, 1024), STATUS_TOO_LARGE);
    assert_int_equal(judge(header, 1025), STATUS_NOT_FOUND);
    peer_frame_encode(header, &(struct peer_frame){.length = UINT32_MAX});
    assert_int_equal(judge(header, 48u << 20), STATUS_TOO_LARGE);
    peer_frame_encode(header, &(struct peer_frame){.kind = PEER_FRAME_HEARTBEAT + 1});
    assert_int_equal(judge(header, 1024), STATUS_INVALID);
    peer_frame_encode(header, &(struct peer_frame){.kind = PEER_FRAME_READY, .channel = 1});
    assert_int_equal(judge(header, 1024), STATUS_INVALID);
    peer_frame_encode(header, &(struct peer_frame){.length = 0});
    header[7] = 1;
    assert_int_equal(judge(header, 1024), STATUS_INVALID);
}

static struct hello sample(void)
{
    return (struct hello){.version_min = 1,
                          .version_max = 2,
                          .feature_level = 7,
                          .feature_level_min = 3,
                          .cluster_id = {1, 2, 3},
                          .data_id = {4, 5},
                          .node_id = 2,
                          .to_node_id = 1,
                          .boot = UINT64_MAX,
                          .wall_ms = 1790000000000,
                          .founders = 12345,
                          .peer = SLICE_LITERAL("broker-2.local:9326"),
                          .http = SLICE_LITERAL("[::1]:9324"),
                          .rpc = {NULL, 0},
                          .version = SLICE_LITERAL("1.2.3")};
}

static void test_hello_round_trip(void **state)
{
    (void)state;
    struct hello in = sample();
    struct hello out;
    struct buffer bytes = {0};
    hello_encode(&bytes, &in);
    assert_true(bytes.length <= HELLO_BYTES_MAX);
    buffer_add_text(&bytes, "what a later version adds");
    assert_true(hello_decode(buffer_slice(&bytes), &out));
    assert_int_equal(out.version_max, 2);
    assert_int_equal(out.feature_level, 7);
    assert_int_equal(out.feature_level_min, 3);
    assert_memory_equal(out.cluster_id, in.cluster_id, PEER_ID_BYTES);
    assert_memory_equal(out.data_id, in.data_id, PEER_ID_BYTES);
    assert_int_equal(out.node_id, 2);
    assert_int_equal(out.to_node_id, 1);
    assert_int_equal(out.boot, UINT64_MAX);
    assert_int_equal(out.wall_ms, 1790000000000);
    assert_int_equal(out.founders, 12345);
    assert_true(slice_is(out.peer, "broker-2.local:9326"));
    assert_true(slice_is(out.http, "[::1]:9324"));
    assert_int_equal(out.rpc.length, 0);
    assert_true(slice_is(out.version, "1.2.3"));
    size_t shortest = 88 + 3 * 2 + 19 + 10; /* of an earlier version: no version */
    assert_true(hello_decode(slice_make(bytes.data, shortest), &out));
    assert_int_equal(out.version.length, 0);
    for (size_t length = 0; length < shortest + 2 + 5 + 4; length++)
        assert_true(length == shortest || !hello_decode(slice_make(bytes.data, length), &out));
    buffer_free(&bytes);
}

static bool decodes(const struct hello *hello)
{
    struct hello out;
    struct buffer bytes = {0};
    hello_encode(&bytes, hello);
    bool good = hello_decode(buffer_slice(&bytes), &out);
    buffer_free(&bytes);
    return good;
}

static void test_hello_refuses_nonsense(void **state)
{
    (void)state;
    struct hello h = sample();
    assert_true(decodes(&h));
    h.node_id = 0;
    assert_false(decodes(&h));
    h = sample();
    h.to_node_id = 0;
    assert_false(decodes(&h));
    h = sample();
    h.version_min = 3;
    assert_false(decodes(&h));
    h = sample();
    h.http = SLICE_LITERAL("evil\"host:1");
    assert_false(decodes(&h));
    h.http = SLICE_LITERAL("evil\nhost:1");
    assert_false(decodes(&h));
}

static void test_judge(void **state)
{
    (void)state;
    struct hello a = sample(), b = sample();
    a.node_id = 1;
    a.to_node_id = 2;
    assert_int_equal(hello_judge(&a, &b, 0), REFUSAL_NONE);
    assert_int_equal(hello_judge(&a, &b, 2), REFUSAL_NONE);
    assert_int_equal(hello_judge(&b, &a, 1), REFUSAL_NONE);
    assert_int_equal(hello_judge(&a, &b, 3), REFUSAL_NODE);
    b.to_node_id = 3;
    assert_int_equal(hello_judge(&a, &b, 0), REFUSAL_NODE);
    b = sample();
    b.node_id = 1;
    assert_int_equal(hello_judge(&a, &b, 0), REFUSAL_SELF);
    b = sample();
    b.cluster_id[15] = 1;
    assert_int_equal(hello_judge(&a, &b, 0), REFUSAL_CLUSTER);
    memset(b.cluster_id, 0, sizeof b.cluster_id);
    assert_int_equal(hello_judge(&a, &b, 0), REFUSAL_NONE);
    assert_int_equal(hello_judge(&b, &a, 0), REFUSAL_NONE);
    b = sample();
    b.founders = 1;
    assert_int_equal(hello_judge(&a, &b, 0), REFUSAL_FOUNDERS);
    b.founders = 0;
    assert_int_equal(hello_judge(&a, &b, 0), REFUSAL_NONE);
    assert_int_equal(hello_judge(&b, &a, 0), REFUSAL_NONE);
    b = sample();
    b.version_min = b.version_max = 3;
    assert_int_equal(hello_judge(&a, &b, 0), REFUSAL_VERSION);
    assert_int_equal(hello_judge(&b, &a, 0), REFUSAL_VERSION);
    b.version_min = 2;
    assert_int_equal(hello_judge(&a, &b, 0), REFUSAL_NONE);
    assert_int_equal(hello_version(&a, &b), 2);
    b = sample();
    b.feature_level = 2;
    assert_int_equal(hello_judge(&a, &b, 0), REFUSAL_FEATURES);
    assert_int_equal(hello_judge(&b, &a, 0), REFUSAL_FEATURES);
}

/* a (program 7, works from 3 on) is in a cluster that runs at some level; b is another program. */
static enum refusal judge_levels(uint32_t now, uint32_t level, uint32_t level_min, uint32_t b_now)
{
    struct hello a = sample(), b = sample();
    a.node_id = 1;
    a.to_node_id = 2;
    a.feature_level_now = now;
    b.feature_level = level;
    b.feature_level_min = level_min;
    b.feature_level_now = b_now;
    assert_int_equal(hello_judge(&a, &b, 0), hello_judge(&b, &a, 0));
    return hello_judge(&a, &b, 0);
}

static void test_judge_levels(void **state)
{
    (void)state;
    assert_int_equal(judge_levels(5, 5, 4, 0), REFUSAL_NONE);
    assert_int_equal(judge_levels(6, 5, 4, 0), REFUSAL_FEATURES); /* too old for what is in force */
    assert_int_equal(judge_levels(5, 7, 6, 0), REFUSAL_FEATURES); /* too new for it */
    assert_int_equal(judge_levels(0, 7, 6, 0), REFUSAL_NONE);     /* nothing is in force yet */
    assert_int_equal(judge_levels(5, 7, 6, 6), REFUSAL_NONE);     /* a has not heard it yet */
    assert_int_equal(judge_levels(6, 6, 5, 5), REFUSAL_NONE);     /* b has not */
    assert_int_equal(judge_levels(6, 5, 4, 5), REFUSAL_FEATURES);
}

/* Two that are to begin a cluster together. */
static void test_judge_a_beginning(void **state)
{
    (void)state;
    struct hello a = sample(), b = sample();
    a.node_id = 1;
    a.to_node_id = 2;
    b.feature_level--;
    memset(a.cluster_id, 0, sizeof a.cluster_id);
    assert_int_equal(hello_judge(&a, &b, 0), REFUSAL_NONE); /* b has begun one already */
    assert_int_equal(hello_judge(&b, &a, 0), REFUSAL_NONE);
    memset(b.cluster_id, 0, sizeof b.cluster_id);
    assert_int_equal(hello_judge(&a, &b, 0), REFUSAL_BEGINNING);
    assert_int_equal(hello_judge(&b, &a, 0), REFUSAL_BEGINNING);
    b.founders = 0; /* b joins */
    assert_int_equal(hello_judge(&a, &b, 0), REFUSAL_NONE);
    b = a;
    b.node_id = 2;
    b.to_node_id = 1;
    assert_int_equal(hello_judge(&a, &b, 0), REFUSAL_NONE);
}

static void test_refused_round_trip(void **state)
{
    (void)state;
    struct buffer bytes = {0};
    struct refused out;
    refused_encode(&bytes, &(struct refused){REFUSAL_CLUSTER, 3, 5, 4});
    assert_int_equal(bytes.length, REFUSED_BYTES);
    buffer_add_text(&bytes, "what a later version adds");
    assert_true(refused_decode(buffer_slice(&bytes), &out));
    assert_int_equal(out.why, REFUSAL_CLUSTER);
    assert_int_equal(out.node_id, 3);
    assert_int_equal(out.feature_level, 5);
    assert_int_equal(out.feature_level_min, 4);
    bytes.data[0] = 200;
    assert_true(refused_decode(buffer_slice(&bytes), &out));
    assert_string_equal(refusal_name(out.why), "OTHER");
    assert_non_null(refusal_text(out.why));
    assert_true(refused_decode(slice_make(bytes.data, 9), &out)); /* of an earlier version */
    assert_int_equal(out.node_id, 3);
    assert_int_equal(out.feature_level, 0);
    assert_false(refused_decode(slice_make(bytes.data, 10), &out));
    bytes.data[0] = 0;
    assert_false(refused_decode(buffer_slice(&bytes), &out));
    assert_false(refused_decode(slice_make(bytes.data, 8), &out));
    buffer_free(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_cut),
        cmocka_unit_test(test_large_is_read_in_place),
        cmocka_unit_test(test_bad_headers),
        cmocka_unit_test(test_hello_round_trip),
        cmocka_unit_test(test_hello_refuses_nonsense),
        cmocka_unit_test(test_judge),
        cmocka_unit_test(test_judge_levels),
        cmocka_unit_test(test_judge_a_beginning),
        cmocka_unit_test(test_refused_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
