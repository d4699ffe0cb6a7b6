/* SPDX-License-Identifier: Apache-2.0 */
/* Documents, in a small array. */
#include "tests/sim/model.h"

#include "proto/base/assert.h"

static struct model_document *find(struct model *model, struct slice name)
{
    for (size_t i = 0; i < MODEL_DOCUMENTS; i++) {
        if (model->documents[i].exists && model_text_is(&model->documents[i].name, name))
            return &model->documents[i];
    }
    return NULL;
}

void model_document_put(struct model *model, const struct command_document_put *put,
                        struct core_result *result)
{
    struct model_document *document = find(model, put->name);
    result->version = document != NULL ? document->version : 0;
    if (document == NULL && put->version != 0) {
        result->code = CORE_NO_DOCUMENT;
        return;
    }
    if (document != NULL && put->version != document->version) {
        result->code = put->version == 0 ? CORE_EXISTS : CORE_CONFLICT;
        return;
    }
    for (size_t i = 0; document == NULL; i++) {
        ASSERT(i < MODEL_DOCUMENTS);
        if (!model->documents[i].exists)
            document = &model->documents[i];
    }
    document->exists = true;
    document->version = result->version = ++model->version_last;
    model_text_set(&document->name, put->name);
    model_text_set(&document->content, put->content);
    model->document_changes++;
}

void model_document_delete(struct model *model, const struct command_document_delete *delete,
                           struct core_result *result)
{
    struct model_document *document = find(model, delete->name);
    if (document == NULL) {
        result->code = CORE_NO_DOCUMENT;
        return;
    }
    result->version = document->version;
    if (delete->version != 0 && delete->version != document->version) {
        result->code = CORE_CONFLICT;
        return;
    }
    document->exists = false;
    model->document_changes++;
}
