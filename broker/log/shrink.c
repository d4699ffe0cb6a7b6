/* SPDX-License-Identifier: Apache-2.0 */
/* Giving a file's blocks back in pieces. Where the file system tells the disk about each (mount
 * option discard), 16 MiB at once take 10 to 30 ms, and every sync of every log waits for them:
 * while sixteen files went, one after the other, the median of such syncs was 15 ms. In pieces with
 * a pause behind each it is what it always is.
 *
 * I1  Only a file without a name is cut: what a power failure or a backup may bring back is whole.
 *     So whoever takes the name away syncs the folder first. */
#include "broker/log/internal.h"
#include "proto/base/assert.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE_BYTES (512u << 10)
#define PAUSE_MS    2u

struct shrink {
    uv_work_t work;
    uv_timer_t timer;
    struct log *log;
    int fd;      /* -1: closed, and all done */
    bool cut;    /* in pieces; else, and when the log closes meanwhile, it is only closed */
    off_t bytes; /* of the file; 0: nobody has looked */
    void (*done)(struct log *log);
};

/* ---- in the pool ---- */

/* may_cut: a backup may have the file under a name of its own. */
static bool may_cut(struct shrink *s)
{
    struct stat about;
    if (s->bytes == 0 && (fstat(s->fd, &about) != 0 || about.st_nlink > 0))
        return false;
    s->bytes = s->bytes == 0 ? about.st_size : s->bytes;
    return s->bytes > (off_t)PIECE_BYTES;
}

static void run_piece(uv_work_t *work)
{
    struct shrink *s = CONTAINER_OF(work, struct shrink, work);
    if (s->cut && may_cut(s)) {
        s->bytes -= (off_t)PIECE_BYTES;
        if (ftruncate(s->fd, s->bytes) == 0)
            return;
    }
    close(s->fd); /* and the last piece goes */
    s->fd = -1;
}

/* ---- on the loop ---- */

static void on_timer_closed(uv_handle_t *handle)
{
    struct shrink *s = CONTAINER_OF((uv_timer_t *)handle, struct shrink, timer);
    struct log *log = s->log;
    void (*done)(struct log * log) = s->done;
    log->shrinks--;
    free(s);
    if (done != NULL)
        done(log);
    log_maybe_closed(log);
}

static void after_piece(uv_work_t *work, int status);

static void begin_piece(struct shrink *s)
{
    s->cut = s->cut && s->log->closed == NULL;
    int error = uv_queue_work(s->log->options.loop, &s->work, run_piece, after_piece);
    ASSERT(error == 0);
}

static void on_pause_over(uv_timer_t *timer)
{
    begin_piece(CONTAINER_OF(timer, struct shrink, timer));
}

static void after_piece(uv_work_t *work, int status)
{
    struct shrink *s = CONTAINER_OF(work, struct shrink, work);
    (void)status; /* never cancelled */
    if (s->fd < 0)
        uv_close((uv_handle_t *)&s->timer, on_timer_closed);
    else
        uv_timer_start(&s->timer, on_pause_over, PAUSE_MS, 0);
}

void shrink_begin(struct log *log, int fd, bool cut, void (*done)(struct log *log))
{
    struct shrink *s = calloc(1, sizeof *s);
    ASSERT(s != NULL);
    *s = (struct shrink){.log = log, .fd = fd, .cut = cut, .done = done};
    uv_timer_init(log->options.loop, &s->timer);
    log->shrinks++;
    begin_piece(s);
}
