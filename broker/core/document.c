/* SPDX-License-Identifier: Apache-2.0 */
/* Documents: small named records that belong to whoever uses them (an access key is one). The core
 * gives them what a shared record needs and nothing more: a version, so that of two concurrent
 * changes one fails, a walk in name order, so that the names of a kind ("key/...") stand together,
 * and a word to the owner about each change. What is in them it never reads. */
#include "broker/core/state.h"

#include <stdlib.h>

static void changed(const struct core *core, struct slice name)
{
    if (core->events.document_changed != NULL)
        core->events.document_changed(core->events.data, name);
}

void document_add(struct core *core, const struct document_view *view)
{
    struct document *document = calloc(1, sizeof *document);
    ASSERT(document != NULL);
    document->view = *view;
    document->view.name = slice_own(view->name);
    document->view.content = slice_own(view->content);
    names_add(&core->document_names, document->view.name, document);
}

void document_free(struct document *document)
{
    slice_disown(&document->view.name);
    slice_disown(&document->view.content);
    free(document);
}

void document_put(struct core *core, const struct command *command, struct core_result *result)
{
    const struct command_document_put *put = &command->document_put;
    struct document *document = names_get(&core->document_names, put->name);
    result->version = document != NULL ? document->view.version : 0;
    result->code = version_code(result->version, put->version, CORE_NO_DOCUMENT);
    if (result->code != CORE_OK)
        return;
    struct document_view view = {put->name, ++core->version_last, put->content};
    if (document == NULL) {
        document_add(core, &view);
    } else {
        struct slice old = document->view.content;
        document->view.version = view.version;
        document->view.content = slice_own(view.content);
        slice_disown(&old); /* after the copy: the command may have borrowed from it */
    }
    result->version = view.version;
    changed(core, put->name);
}

void document_delete(struct core *core, const struct command *command, struct core_result *result)
{
    const struct command_document_delete *delete = &command->document_delete;
    struct document *document = names_get(&core->document_names, delete->name);
    result->version = document != NULL ? document->view.version : 0;
    if (document == NULL) {
        result->code = CORE_NO_DOCUMENT;
    } else if (delete->version != 0 && delete->version != result->version) {
        result->code = CORE_CONFLICT;
    } else {
        names_remove(&core->document_names, document->view.name);
        changed(core, document->view.name);
        document_free(document);
    }
}

bool core_document_get(const struct core *core, struct slice name, struct document_view *out)
{
    const struct document *document = names_get(&core->document_names, name);
    if (document != NULL)
        *out = document->view;
    return document != NULL;
}

bool core_document_next(const struct core *core, struct slice after, struct document_view *out)
{
    const struct document *document = names_after(&core->document_names, after);
    if (document != NULL)
        *out = document->view;
    return document != NULL;
}
