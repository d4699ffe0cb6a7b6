/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/page_options.h"

#include "proto/base/trace.h"

#include <sysexits.h>

const char *page_options_check(const struct node_options *options)
{
    const char *mode = options->metrics_auth;
    if (strcmp(mode, "auto") != 0 && strcmp(mode, "required") != 0 && strcmp(mode, "off") != 0)
        return "--metrics-auth must be required, off or auto";
    if (strcmp(mode, "off") == 0 && options->metrics_token_file != NULL)
        return "--metrics-token-file is of no use with --metrics-auth off: give one of them";
    return NULL;
}

int page_options_open(const struct node_options *options, const struct auth *auth,
                      struct page_guard **out)
{
    const char *file = options->metrics_token_file;
    const char *why = NULL;
    *out = NULL;
    if (file == NULL && strcmp(options->metrics_auth, "required") != 0)
        return EX_OK;
    if (file == NULL && !auth_required(auth)) {
        trace_error("node", "metrics_for_nobody",
                    "why=\"--metrics-auth required needs --metrics-token-file where signatures "
                    "are not checked: nobody could read /metrics\"");
        return EX_CONFIG;
    }
    if (page_guard_open(out, file, &why) == STATUS_OK)
        return EX_OK;
    trace_error("node", "metrics_token_unusable", "file=\"%s\" why=\"%s\"", file, why);
    return EX_CONFIG;
}
