/* SPDX-License-Identifier: Apache-2.0 */
/* What this node is in its cluster.
 *
 * A new directory gets its identity before anything else is written to it: the node's id, a random
 * id of the data, and a digest of the members that the cluster is to begin with. The cluster's own
 * id is made by its first leader and comes through the log; until then the digest keeps nodes apart
 * that were not meant to be one cluster. Starting again with the same command line just starts.
 *
 * What is refused here, by name (exit code 78, EX_CONFIG):
 *     the data are of another node           --node-id, or --data-dir, is wrong
 *     the state is of another cluster        files of two directories were mixed
 *     --cluster changed before there was a cluster
 *     the cluster's feature level is too new, or too old, for this program (docs/upgrades.md)
 * What other nodes refuse is in broker/peer/refusal.def. */
#include "broker/cluster.h"

#include "broker/addresses.h"
#include "broker/feature/feature.h"
#include "broker/identity.h"
#include "broker/level.h"
#include "proto/base/assert.h"
#include "proto/base/options.h"
#include "proto/base/trace.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sysexits.h>

#define WATCH_MS 50u

struct cluster {
    const struct node_options *options;
    struct arena arena;
    struct member members[MEMBERS_MAX]; /* of --cluster, or of --join */
    struct shard_member voters[MEMBERS_MAX];
    size_t member_count;
    bool joins;
    struct identity identity;
    struct peers *peers;
    const char *address;
    struct shard *shard;
    uv_timer_t watch;
    bool known; /* the cluster's id */
    struct level level;
    struct addresses addresses;
    uint64_t leader;
    char leader_rpc[HELLO_ADDRESS_MAX + 1];
    void (*leader_changed)(void *data, uint64_t node_id, const char *rpc_address);
    void *leader_data;
    void (*failed)(void *data, int code);
    void *failed_data;
    unsigned parts;
    void (*closed)(void *data);
    void *closed_data;
};

static bool id_known(const uint8_t id[UUID_BYTES])
{
    return peer_id_known(id);
}

static int refuse(const struct cluster *c, const char *event, const char *why)
{
    trace_error("cluster", event, "dir=\"%s\" node=%" PRIu64 " why=\"%s\"", c->options->data_dir,
                c->options->node_id, why);
    return EX_CONFIG;
}

/* ---- the identity ---- */

/* A node that was told of no others is its own cluster, wherever it is reached. */
static uint64_t founders(const struct cluster *c)
{
    const struct member alone = {.id = c->options->node_id, .address = ""};
    if (c->joins)
        return 0;
    return c->member_count > 0 ? members_digest(c->members, c->member_count)
                               : members_digest(&alone, 1);
}

static int store(struct cluster *c)
{
    enum status status = identity_store(c->options->data_dir, &c->identity);
    if (status == STATUS_OK)
        return EX_OK;
    trace_error("cluster", "identity_not_stored", "dir=\"%s\" why=\"%s\"", c->options->data_dir,
                status_text(status));
    return EX_IOERR;
}

/* A directory of an earlier version holds a cluster of this node alone, and has no identity yet. */
static int identity_begin(struct cluster *c)
{
    struct stat about;
    const char *shard_dir = arena_printf(&c->arena, "%s/shard-0", c->options->data_dir);
    bool earlier = stat(shard_dir, &about) == 0;
    if (earlier && (c->joins || c->member_count > 1))
        return refuse(c, "data_of_a_single_node",
                      "the directory holds data, but does not say of which cluster; start it "
                      "without --cluster and --join, or take an empty directory");
    c->identity = (struct identity){.node_id = c->options->node_id, .founders = founders(c)};
    uuid_random(c->identity.data_id);
    return store(c);
}

static int identity_check(struct cluster *c)
{
    const struct identity *identity = &c->identity;
    if (identity->node_id != c->options->node_id)
        return refuse(c, "data_of_another_node",
                      arena_printf(&c->arena,
                                   "the directory is of node %" PRIu64
                                   "; check --node-id and --data-dir",
                                   identity->node_id));
    if (!id_known(identity->cluster_id) && identity->founders != founders(c))
        return refuse(c, "founded_with_another_list",
                      "--cluster (or --join) is not what this directory was begun with, and there "
                      "is no cluster yet; use the same again, or empty the directory");
    return EX_OK;
}

/* The log says so too, but an older program may not be able to read that far. */
static int level_check(struct cluster *c)
{
    uint32_t level = c->identity.feature_level;
    if (level > feature_level())
        return refuse(c, "feature_level_too_new",
                      arena_printf(&c->arena,
                                   "the cluster runs at feature level %u, this program knows %u "
                                   "at most, and a cluster does not go back: start the version "
                                   "that ran here before, or a later one (docs/upgrades.md)",
                                   level, feature_level()));
    if (level > 0 && level < feature_level_min())
        return refuse(c, "feature_level_too_old",
                      arena_printf(&c->arena,
                                   "the cluster runs at feature level %u, this program works with "
                                   "%u and %u only: versions are upgraded one at a time, start the "
                                   "one between first (docs/upgrades.md)",
                                   level, feature_level_min(), feature_level()));
    return EX_OK;
}

static int identity_prepare(struct cluster *c)
{
    enum status status = identity_load(c->options->data_dir, &c->identity);
    if (status == STATUS_NOT_FOUND)
        return identity_begin(c);
    if (status == STATUS_OK) {
        int code = identity_check(c);
        return code == EX_OK ? level_check(c) : code;
    }
    trace_error("cluster", "identity_unusable", "file=\"%s/node.json\" why=\"%s\"",
                c->options->data_dir, status_text(status));
    return status == STATUS_UNSUPPORTED || status == STATUS_CORRUPT ? EX_CONFIG : EX_IOERR;
}

/* ---- what is learned while running ---- */

static void cluster_known(struct cluster *c, const uint8_t id[UUID_BYTES])
{
    char text[UUID_TEXT_LENGTH + 1];
    uuid_text(id, text);
    memcpy(c->identity.cluster_id, id, UUID_BYTES);
    (void)store(c);
    trace_info("cluster", "known", "cluster=%s node=%" PRIu64, text, c->options->node_id);
}

static void on_learned(void *data, uint64_t node_id, const uint8_t id[PEER_ID_BYTES])
{
    struct cluster *c = data;
    if (node_id == 0)
        cluster_known(c, id);
    else if (identity_learn(&c->identity, node_id, id))
        (void)store(c); /* a failure is traced; it is learned again after a restart */
}

static bool bootstrapped(const struct cluster *c, uint8_t id[UUID_BYTES])
{
    uint8_t secret[32];
    return core_bootstrapped(shard_core(c->shard), id, secret);
}

static bool other_cluster(const struct cluster *c, const uint8_t id[UUID_BYTES])
{
    return id_known(c->identity.cluster_id) && memcmp(id, c->identity.cluster_id, UUID_BYTES) != 0;
}

static void watch_id(struct cluster *c)
{
    uint8_t id[UUID_BYTES];
    if (c->known || !bootstrapped(c, id))
        return;
    if (id_known(c->identity.restored_from)) {
        if (memcmp(id, c->identity.restored_from, UUID_BYTES) == 0)
            return; /* the entry that names the new one is behind, and not committed yet */
        memset(c->identity.restored_from, 0, UUID_BYTES);
        (void)store(c); /* else it is done again at the next start */
    }
    c->known = true;
    if (other_cluster(c, id)) {
        c->failed(c->failed_data, refuse(c, "data_of_another_cluster",
                                         "shard-0 is not of the cluster that node.json names: "
                                         "files of two directories were mixed"));
        return;
    }
    peers_tcp_set_cluster(c->peers, id);
    if (!id_known(c->identity.cluster_id))
        cluster_known(c, id);
}

/* Whoever does not know the level in force is kept out from now on, and so is an older program
 * here.
 */
static void watch_level(struct cluster *c)
{
    uint32_t level = shard_level(c->shard);
    level_raise(&c->level, c->shard, c->peers, c->options->node_id);
    if (!c->known || level == c->identity.feature_level)
        return;
    c->identity.feature_level = level;
    (void)store(c); /* a failure is traced; the log still says it */
    peers_tcp_set_level(c->peers, level);
    trace_info("cluster", "feature_level", "level=%u program=%u", level, feature_level());
}

static const char *rpc_of(const struct cluster *c, uint64_t node_id)
{
    struct peer_about about;
    return node_id != 0 && node_id != c->options->node_id &&
                   peers_tcp_node(c->peers, node_id, &about)
               ? about.rpc
               : "";
}

static void watch_leader(struct cluster *c)
{
    uint64_t leader = shard_leader(c->shard);
    const char *rpc = rpc_of(c, leader);
    if (c->leader_changed == NULL || (leader == c->leader && strcmp(rpc, c->leader_rpc) == 0))
        return;
    c->leader = leader;
    snprintf(c->leader_rpc, sizeof c->leader_rpc, "%s", rpc);
    c->leader_changed(c->leader_data, leader, rpc[0] != '\0' ? c->leader_rpc : NULL);
}

/* The shard tells whether this node leads, not who else does: so it is asked. */
static void on_watch(uv_timer_t *timer)
{
    struct cluster *c = timer->data;
    watch_id(c);
    watch_level(c);
    watch_leader(c);
    addresses_watch(&c->addresses, c->shard, c->peers, c->options->node_id, c->address,
                    uv_now(timer->loop));
}

void cluster_on_leader(struct cluster *c,
                       void (*changed)(void *data, uint64_t node_id, const char *rpc_address),
                       void *data)
{
    c->leader_changed = changed;
    c->leader_data = data;
}

void cluster_watch(struct cluster *c, struct shard *shard, void (*failed)(void *data, int code),
                   void *data)
{
    c->shard = shard;
    c->failed = failed;
    c->failed_data = data;
    uv_timer_start(&c->watch, on_watch, 0, WATCH_MS);
}

void cluster_unwatch(struct cluster *c)
{
    uv_timer_stop(&c->watch);
    c->shard = NULL;
}

/* ---- addresses ---- */

static bool is_wildcard(const char *host)
{
    return strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
}

static const char *join_host_port(struct cluster *c, const char *host, uint16_t port)
{
    return strchr(host, ':') != NULL ? arena_printf(&c->arena, "[%s]:%u", host, port)
                                     : arena_printf(&c->arena, "%s:%u", host, port);
}

/* The name of this machine, where nothing better is known. */
static const char *machine_name(struct cluster *c)
{
    char name[UV_MAXHOSTNAMESIZE];
    size_t size = sizeof name;
    return uv_os_gethostname(name, &size) == 0 ? arena_text(&c->arena, slice_of(name))
                                               : "127.0.0.1";
}

static const char *own_address(struct cluster *c, const char *host)
{
    const struct member *own = members_find(c->members, c->member_count, c->options->node_id);
    if (c->options->advertise_peer != NULL)
        return c->options->advertise_peer;
    if (own != NULL)
        return own->address;
    return join_host_port(c, is_wildcard(host) ? machine_name(c) : host, peers_tcp_port(c->peers));
}

static const char *advertised(struct cluster *c, const char *given, const char *host, uint16_t port)
{
    const char *peer_host;
    uint16_t peer_port;
    if (given != NULL)
        return given;
    if (is_wildcard(host) && address_split(c->address, &c->arena, &peer_host, &peer_port))
        host = peer_host;
    return join_host_port(c, host, port);
}

void cluster_advertise(struct cluster *c, const char *http_host, uint16_t http_port,
                       const char *rpc_host, uint16_t rpc_port)
{
    peers_tcp_advertise(c->peers, c->address,
                        advertised(c, c->options->advertise_http, http_host, http_port),
                        advertised(c, c->options->advertise_rpc, rpc_host, rpc_port));
}

/* ---- opening and closing ---- */

/* Whom to dial comes from the log, but for a node that joins. Where, from the command line, too: a
 * member may have moved while this node was away. */
static void know_member(struct cluster *c, const struct member *member)
{
    if (member->id == c->options->node_id)
        return;
    if (c->joins)
        peers_set_address(c->peers, member->id, member->address);
    else
        peers_tcp_set_spare(c->peers, member->id, PEER_SPARE_GIVEN, member->address);
}

static int listen_for_peers(struct cluster *c, uv_loop_t *loop, struct tls_context *tls)
{
    const char *host;
    uint16_t port;
    if (!address_split(c->options->peer, &c->arena, &host, &port))
        return EX_USAGE;
    struct peers_tcp_options options = {.loop = loop,
                                        .node_id = c->options->node_id,
                                        .tls = tls,
                                        .host = host,
                                        .port = port,
                                        .founders = c->identity.founders,
                                        .feature_level = feature_level(),
                                        .feature_level_min = feature_level_min(),
                                        .feature_level_now = c->identity.feature_level,
                                        .version = MILLRACE_VERSION,
                                        .learned = on_learned,
                                        .data = c};
    memcpy(options.cluster_id, c->identity.cluster_id, PEER_ID_BYTES);
    memcpy(options.data_id, c->identity.data_id, PEER_ID_BYTES);
    enum status status = peers_tcp_open(&c->peers, &options);
    if (status != STATUS_OK) {
        c->peers = NULL;
        trace_error("cluster", "cannot_listen", "option=--peer addr=%s why=\"%s\"",
                    c->options->peer,
                    status == STATUS_EXISTS ? "the address is in use" : status_text(status));
        return EX_UNAVAILABLE;
    }
    for (size_t i = 0; i < c->identity.node_count; i++)
        peers_tcp_know(c->peers, c->identity.nodes[i].id, c->identity.nodes[i].data_id);
    c->address = own_address(c, host);
    peers_tcp_advertise(c->peers, c->address, NULL, NULL);
    for (size_t i = 0; i < c->member_count; i++)
        know_member(c, &c->members[i]);
    return EX_OK;
}

static void read_members(struct cluster *c)
{
    const char *list = c->options->join != NULL ? c->options->join : c->options->cluster;
    c->joins = c->options->join != NULL;
    if (list == NULL)
        return;
    const char *error = members_parse(list, &c->arena, c->members, &c->member_count);
    ASSERT(error == NULL); /* node_options_check has looked */
    for (size_t i = 0; i < c->member_count; i++)
        c->voters[i] = (struct shard_member){c->members[i].id, c->members[i].address};
}

int cluster_open(struct cluster **out, uv_loop_t *loop, const struct node_options *options,
                 struct tls_context *tls)
{
    struct cluster *c = calloc(1, sizeof *c);
    ASSERT(c != NULL);
    c->options = options;
    read_members(c);
    int code = identity_prepare(c);
    if (code == EX_OK)
        code = listen_for_peers(c, loop, tls);
    if (code != EX_OK) {
        arena_free(&c->arena);
        free(c);
        return code;
    }
    uv_timer_init(loop, &c->watch);
    c->watch.data = c;
    c->parts = 2;
    *out = c;
    return EX_OK;
}

static void part_closed(struct cluster *c)
{
    if (--c->parts > 0)
        return;
    void (*closed)(void *data) = c->closed;
    void *data = c->closed_data;
    arena_free(&c->arena);
    free(c);
    closed(data);
}

static void peers_closed(void *data)
{
    part_closed(data);
}

static void watch_closed(uv_handle_t *handle)
{
    part_closed(handle->data);
}

void cluster_close(struct cluster *c, void (*closed)(void *data), void *data)
{
    c->shard = NULL;
    c->closed = closed;
    c->closed_data = data;
    uv_close((uv_handle_t *)&c->watch, watch_closed);
    peers_tcp_close(c->peers, peers_closed, c);
}

struct peers *cluster_peers(struct cluster *c)
{
    return c->peers;
}

const char *cluster_address(const struct cluster *c)
{
    return c->address;
}

const struct shard_member *cluster_members(const struct cluster *c, size_t *count)
{
    *count = c->joins ? 0 : c->member_count;
    return *count > 0 ? c->voters : NULL;
}

bool cluster_joins(const struct cluster *c)
{
    return c->joins;
}

uint64_t cluster_shards_begun(const struct cluster *c)
{
    return c->identity.shards_begun;
}

bool cluster_set_shards_begun(struct cluster *c, uint64_t begun, uint32_t shards)
{
    c->identity.shards = shards;
    c->identity.shards_begun = begun;
    return store(c) == EX_OK;
}
