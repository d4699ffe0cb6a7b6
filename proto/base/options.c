/* SPDX-License-Identifier: Apache-2.0 */
/* Options of a program, from one table of rows.
 *
 * Four sources are read, weakest first, each overwriting what the one before it set: the row's
 * default, the --config file, the environment, the flags. All of them go through the same
 * row_set(), so that a value means the same wherever it stands, and every error begins with the
 * place it came from ("--port", "MILLRACE_PORT", "broker.conf:3: port").
 *
 * The flags are walked first, without being applied, because --config among them names the file and
 * --help must work however broken the file or the environment is.
 *
 * Refused: abbreviations, single-letter options (but -h), values for flags on the command line,
 * names in the file that no row has, files above CONFIG_BYTES_MAX. A wrong default is a programmer
 * error. */
#include "proto/base/options.h"

#include "proto/base/assert.h"
#include "proto/base/buffer.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

#define CONFIG_BYTES_MAX (1u << 20)
#define HOST_LENGTH_MAX  255
#define HELP_COLUMNS     96
#define HELP_INDENT      26
#define ENV_PREFIX       "MILLRACE_"

static const struct option_row config_row = {
    .name = "config",
    .type = OPTION_TEXT,
    .placeholder = "FILE",
    .help = "Read options from this file, one `name = value` a line.",
};

struct reader {
    const struct options_spec *spec;
    struct arena *arena;
    struct options_result *result;
    void *target;
    bool *is_set;       /* by row: some source had a value */
    const char **flags; /* by row: the value on the command line, or NULL */
    const char *config; /* the path that --config or MILLRACE_CONFIG names, or NULL */
};

/* Values. */

static bool digits_parse(const char *text, const char **end, uint64_t *out)
{
    uint64_t value = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9'; at++) {
        if (__builtin_mul_overflow(value, 10u, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*at - '0'), &value))
            return false;
    }
    *end = at;
    *out = value;
    return at != text;
}

bool bytes_parse(const char *text, uint64_t *out)
{
    static const struct {
        const char *suffix;
        uint64_t factor;
    } units[] = {{"", 1},
                 {"B", 1},
                 {"kB", 1000},
                 {"KB", 1000},
                 {"MB", 1000000},
                 {"GB", 1000000000},
                 {"TB", 1000000000000},
                 {"KiB", 1ull << 10},
                 {"MiB", 1ull << 20},
                 {"GiB", 1ull << 30},
                 {"TiB", 1ull << 40}};
    const char *end;
    uint64_t value;
    if (!digits_parse(text, &end, &value))
        return false;
    for (size_t i = 0; i < ARRAY_COUNT(units); i++) {
        if (strcmp(end, units[i].suffix) == 0)
            return !__builtin_mul_overflow(value, units[i].factor, out);
    }
    return false;
}

/* The host part of an address: [first, end), without brackets. */
static bool host_valid(const char *first, const char *end, bool bracketed)
{
    if (first == end || end - first > HOST_LENGTH_MAX)
        return false;
    for (const char *at = first; at < end; at++) {
        bool plain = isalnum((unsigned char)*at) || *at == '.' || *at == '-' || *at == '_';
        if (!plain && !(bracketed && (*at == ':' || *at == '%')))
            return false;
    }
    return true;
}

bool address_split(const char *text, struct arena *arena, const char **host, uint16_t *port)
{
    bool bracketed = text[0] == '[';
    const char *first = bracketed ? text + 1 : text;
    const char *end = strchr(first, bracketed ? ']' : ':');
    if (end == NULL || !host_valid(first, end, bracketed))
        return false;
    const char *colon = bracketed ? end + 1 : end;
    const char *rest;
    uint64_t number;
    if (*colon != ':' || !digits_parse(colon + 1, &rest, &number) || *rest != 0 ||
        number > UINT16_MAX)
        return false;
    *host = arena_text(arena, slice_make(first, (size_t)(end - first)));
    *port = (uint16_t)number;
    return true;
}

/* Each type's parser writes its field and returns true, or leaves it alone and returns false. */

static bool set_text(struct reader *r, const struct option_row *row, const char *value, void *field)
{
    (void)row;
    *(const char **)field = arena_text(r->arena, slice_of(value));
    return true;
}

static bool set_flag(struct reader *r, const struct option_row *row, const char *value, void *field)
{
    (void)r, (void)row;
    bool on = strcmp(value, "true") == 0;
    if (!on && strcmp(value, "false") != 0)
        return false;
    *(bool *)field = on;
    return true;
}

static bool set_within(const struct option_row *row, uint64_t number, void *field)
{
    if (number < row->min || (row->max != 0 && number > row->max))
        return false;
    *(uint64_t *)field = number;
    return true;
}

static bool set_number(struct reader *r, const struct option_row *row, const char *value,
                       void *field)
{
    (void)r;
    const char *end;
    uint64_t number;
    return digits_parse(value, &end, &number) && *end == 0 && set_within(row, number, field);
}

static bool set_bytes(struct reader *r, const struct option_row *row, const char *value,
                      void *field)
{
    (void)r;
    uint64_t number;
    return bytes_parse(value, &number) && set_within(row, number, field);
}

static bool set_address(struct reader *r, const struct option_row *row, const char *value,
                        void *field)
{
    const char *host;
    uint16_t port;
    return address_split(value, r->arena, &host, &port) && set_text(r, row, value, field);
}

/* A list grows on the command line only, where list_add puts its items. */
static bool set_list(struct reader *r, const struct option_row *row, const char *value, void *field)
{
    (void)r, (void)row, (void)value, (void)field;
    return false;
}

static void list_add(struct reader *r, const struct option_row *row, const char *value)
{
    struct option_list *list = (struct option_list *)(void *)((char *)r->target + row->offset);
    const char **items = arena_alloc(r->arena, sizeof *items * (list->count + 1));
    for (size_t i = 0; i < list->count; i++)
        items[i] = list->items[i];
    items[list->count] = arena_text(r->arena, slice_of(value));
    *list = (struct option_list){items, list->count + 1};
}

static const struct {
    bool (*set)(struct reader *r, const struct option_row *row, const char *value, void *field);
    const char *expected;
    bool has_range;
} types[] = {
    [OPTION_TEXT] = {set_text, "a text", false},
    [OPTION_FLAG] = {set_flag, "true or false", false},
    [OPTION_NUMBER] = {set_number, "a whole number", true},
    [OPTION_BYTES] = {set_bytes, "a size such as 4096, 512MiB or 100MB", true},
    [OPTION_ADDRESS] = {set_address, "an address such as host:port or [::1]:port", false},
    [OPTION_LIST] = {set_list, "allowed here, but only on the command line", false},
};

static enum status refuse(struct reader *r, const char *error)
{
    r->result->error = error;
    return STATUS_INVALID;
}

static const char *range_text(struct arena *arena, const struct option_row *row)
{
    if (!types[row->type].has_range)
        return "";
    if (row->max != 0)
        return arena_printf(arena, ", %llu to %llu", (unsigned long long)row->min,
                            (unsigned long long)row->max);
    return row->min != 0 ? arena_printf(arena, ", at least %llu", (unsigned long long)row->min)
                         : "";
}

static enum status row_set(struct reader *r, size_t index, const char *value, const char *origin)
{
    const struct option_row *row = &r->spec->rows[index];
    if (!types[row->type].set(r, row, value, (char *)r->target + row->offset))
        return refuse(r, arena_printf(r->arena, "%s: '%s' is not %s%s", origin, value,
                                      types[row->type].expected, range_text(r->arena, row)));
    r->is_set[index] = true;
    return STATUS_OK;
}

/* Names. */

/* The index of the row of that name, or row_count. */
static size_t row_find(const struct options_spec *spec, struct slice name)
{
    size_t i = 0;
    while (i < spec->row_count && !slice_is(name, spec->rows[i].name))
        i++;
    return i;
}

static const char *env_name(struct arena *arena, const char *name)
{
    char *text = arena_alloc(arena, sizeof ENV_PREFIX + strlen(name));
    memcpy(text, ENV_PREFIX, sizeof ENV_PREFIX - 1);
    char *at = text + sizeof ENV_PREFIX - 1;
    for (; *name != 0; name++)
        *at++ = *name == '-' ? '_' : (char)toupper((unsigned char)*name);
    return text;
}

static const char *env_get(struct arena *arena, const char *name)
{
    const char *value = getenv(env_name(arena, name));
    return value != NULL && value[0] != 0 ? value : NULL;
}

/* --help. */

/* Words of `text` from column `*column` on, broken before HELP_COLUMNS. */
static void print_wrapped(FILE *out, const char *text, int *column)
{
    while (*text != 0) {
        size_t length = strcspn(text, " ");
        if (*column > HELP_INDENT && *column + 1 + (int)length > HELP_COLUMNS) {
            fprintf(out, "\n%*s", HELP_INDENT, "");
            *column = HELP_INDENT;
        }
        bool first = *column == HELP_INDENT;
        fprintf(out, "%s%.*s", first ? "" : " ", (int)length, text);
        *column += (int)length + (first ? 0 : 1);
        text += length;
        text += strspn(text, " ");
    }
}

static void print_row(FILE *out, struct arena *arena, const struct option_row *row)
{
    bool bare = row->type == OPTION_FLAG;
    const char *value = row->placeholder != NULL ? row->placeholder : "VALUE";
    const char *left =
        arena_printf(arena, "  --%s%s%s", row->name, bare ? "" : " ", bare ? "" : value);
    /* A long name has its line to itself. */
    if (strlen(left) + 2 > HELP_INDENT)
        fprintf(out, "%s\n%*s", left, HELP_INDENT, "");
    else
        fprintf(out, "%-*s", HELP_INDENT, left);
    int column = HELP_INDENT;
    print_wrapped(out, row->help, &column);
    bool is_list = row->type == OPTION_LIST;
    const char *note = is_list         ? "may be given several times"
                       : row->required ? "required, "
                       : row->default_text == NULL
                           ? ""
                           : arena_printf(arena, "default %s, ", row->default_text);
    const char *variable = is_list ? "" : env_name(arena, row->name);
    print_wrapped(out, arena_printf(arena, "(%s%s)", note, variable), &column);
    fputc('\n', out);
}

void options_usage(const struct options_spec *spec, FILE *out)
{
    struct arena arena = {0};
    fprintf(out, "Usage: %s [OPTION]...%s%s\n%s\n\nOptions:\n", spec->program,
            spec->usage != NULL ? " " : "", spec->usage != NULL ? spec->usage : "", spec->summary);
    for (size_t i = 0; i < spec->row_count; i++)
        print_row(out, &arena, &spec->rows[i]);
    if (row_find(spec, slice_of(config_row.name)) == spec->row_count)
        print_row(out, &arena, &config_row);
    fprintf(out, "%-*sShow this help.\n", HELP_INDENT, "  --help");
    fprintf(out, "%-*sShow the version.\n", HELP_INDENT, "  --version");
    fprintf(out,
            "\nA flag wins over the environment variable that is named behind it, and that over "
            "the\n--config file.\n");
    if (spec->epilogue != NULL)
        fprintf(out, "\n%s%s", spec->epilogue,
                spec->epilogue[0] != 0 && spec->epilogue[strlen(spec->epilogue) - 1] == '\n'
                    ? ""
                    : "\n");
    arena_free(&arena);
}

static void print_version(const struct options_spec *spec)
{
    /* A subcommand has the version of its program. */
    printf("%.*s %s\n", (int)strcspn(spec->program, " "), spec->program, MILLRACE_VERSION);
}

/* The command line. */

static enum status unknown(struct reader *r, struct slice name)
{
    return refuse(r, arena_printf(r->arena, "unknown option '--%.*s'; %s --help lists them",
                                  SLICE_ARGS(name), r->spec->program));
}

/* One "--name", "--name=value" or "--name value"; `next` is the following word or NULL. */
static enum status take_flag(struct reader *r, const char *word, const char *next, bool *used_next)
{
    const char *equals = strchr(word, '=');
    struct slice name =
        slice_make(word + 2, equals != NULL ? (size_t)(equals - word - 2) : strlen(word + 2));
    size_t index = row_find(r->spec, name);
    bool is_config = slice_is(name, config_row.name);
    if (index == r->spec->row_count && !is_config)
        return unknown(r, name);
    const char *value = equals != NULL ? equals + 1 : next;
    if (index < r->spec->row_count && r->spec->rows[index].type == OPTION_FLAG) {
        if (equals != NULL)
            return refuse(r,
                          arena_printf(r->arena, "--%s takes no value", r->spec->rows[index].name));
        value = "true";
    } else {
        if (value == NULL)
            return refuse(r, arena_printf(r->arena, "--%.*s needs a value", SLICE_ARGS(name)));
        *used_next = equals == NULL;
    }
    if (index < r->spec->row_count && r->spec->rows[index].type == OPTION_LIST)
        list_add(r, &r->spec->rows[index], value);
    else if (index < r->spec->row_count)
        r->flags[index] = value;
    if (is_config)
        r->config = value;
    return STATUS_OK;
}

static enum status take_argument(struct reader *r, const char **arguments, const char *word)
{
    if (!r->spec->takes_arguments)
        return refuse(r,
                      arena_printf(r->arena, "unexpected argument '%s'; %s --help shows the usage",
                                   word, r->spec->program));
    arguments[r->result->argument_count++] = arena_text(r->arena, slice_of(word));
    return STATUS_OK;
}

static enum status walk_words(struct reader *r, int argc, char *const argv[])
{
    const char **arguments =
        arena_alloc(r->arena, sizeof *arguments * (argc > 0 ? (size_t)argc : 1));
    r->result->arguments = arguments;
    bool flags_ended = false;
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        enum status status = STATUS_OK;
        bool used_next = false;
        if (flags_ended || word[0] != '-' || word[1] == 0) {
            status = take_argument(r, arguments, word);
        } else if (strcmp(word, "--") == 0) {
            flags_ended = true;
        } else if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
            options_usage(r->spec, stdout);
            r->result->exit_now = true;
            return STATUS_OK;
        } else if (strcmp(word, "--version") == 0) {
            print_version(r->spec);
            r->result->exit_now = true;
            return STATUS_OK;
        } else if (word[1] != '-') {
            status = refuse(r, arena_printf(r->arena, "unknown option '%s'; %s --help lists them",
                                            word, r->spec->program));
        } else {
            status = take_flag(r, word, i + 1 < argc ? argv[i + 1] : NULL, &used_next);
        }
        if (status != STATUS_OK)
            return status;
        i += used_next ? 1 : 0;
    }
    return STATUS_OK;
}

/* The file. */

static struct slice trim(struct slice s)
{
    while (s.length > 0 && isspace(s.data[0]))
        s = slice_sub(s, 1);
    while (s.length > 0 && isspace(s.data[s.length - 1]))
        s.length--;
    return s;
}

static enum status take_line(struct reader *r, struct slice line, unsigned number)
{
    line = trim(line);
    if (line.length == 0 || line.data[0] == '#')
        return STATUS_OK;
    const char *place = arena_printf(r->arena, "%s:%u", r->config, number);
    ptrdiff_t equals = slice_find(line, '=');
    if (equals < 0 || slice_find(line, 0) >= 0)
        return refuse(r, arena_printf(r->arena, "%s: expected `name = value`", place));
    struct slice name = trim(slice_make(line.data, (size_t)equals));
    struct slice value = trim(slice_sub(line, (size_t)equals + 1));
    size_t index = row_find(r->spec, name);
    if (index == r->spec->row_count)
        return refuse(r,
                      arena_printf(r->arena, "%s: unknown option '%.*s'", place, SLICE_ARGS(name)));
    return row_set(r, index, arena_text(r->arena, value),
                   arena_printf(r->arena, "%s: %s", place, r->spec->rows[index].name));
}

static enum status read_file(struct reader *r, struct buffer *content)
{
    FILE *file = fopen(r->config, "re");
    if (file == NULL)
        return refuse(r, arena_printf(r->arena, "--config: cannot open '%s': %s", r->config,
                                      status_text(status_from_errno(errno))));
    size_t got;
    do {
        got = fread(buffer_reserve(content, 4096), 1, 4096, file);
        buffer_added(content, got);
    } while (got > 0 && content->length <= CONFIG_BYTES_MAX);
    bool failed = ferror(file) != 0;
    fclose(file);
    if (failed || content->length > CONFIG_BYTES_MAX)
        return refuse(r, arena_printf(r->arena, "--config: '%s' %s", r->config,
                                      failed ? "cannot be read" : "is larger than 1 MiB"));
    return STATUS_OK;
}

static enum status take_file(struct reader *r)
{
    struct buffer content = {0};
    enum status status = read_file(r, &content);
    struct slice rest = buffer_slice(&content);
    for (unsigned number = 1; status == STATUS_OK && rest.length > 0; number++) {
        ptrdiff_t newline = slice_find(rest, '\n');
        size_t length = newline >= 0 ? (size_t)newline : rest.length;
        status = take_line(r, slice_make(rest.data, length), number);
        rest = slice_sub(rest, newline >= 0 ? length + 1 : length);
    }
    buffer_free(&content);
    return status;
}

/* The sources, weakest first. */

static void take_defaults(struct reader *r)
{
    for (size_t i = 0; i < r->spec->row_count; i++) {
        const char *text = r->spec->rows[i].default_text;
        ASSERT(text == NULL || row_set(r, i, text, "default") == STATUS_OK);
    }
}

static enum status take_environment(struct reader *r)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < r->spec->row_count; i++) {
        const char *name = r->spec->rows[i].name;
        bool single = r->spec->rows[i].type != OPTION_LIST;
        const char *value = single ? env_get(r->arena, name) : NULL;
        if (value != NULL)
            status = row_set(r, i, value, env_name(r->arena, name));
    }
    return status;
}

static enum status take_flags(struct reader *r)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < r->spec->row_count; i++) {
        if (r->flags[i] != NULL)
            status =
                row_set(r, i, r->flags[i], arena_printf(r->arena, "--%s", r->spec->rows[i].name));
    }
    return status;
}

static enum status check_required(struct reader *r)
{
    for (size_t i = 0; i < r->spec->row_count; i++) {
        const char *name = r->spec->rows[i].name;
        if (r->spec->rows[i].required && !r->is_set[i])
            return refuse(r, arena_printf(r->arena, "--%s is required (or %s in the environment)",
                                          name, env_name(r->arena, name)));
    }
    return STATUS_OK;
}

enum status options_read(const struct options_spec *spec, int argc, char *const argv[],
                         void *target, struct arena *arena, struct options_result *result)
{
    *result = (struct options_result){0};
    struct reader r = {.spec = spec, .arena = arena, .result = result, .target = target};
    r.is_set = arena_alloc(arena, sizeof *r.is_set * spec->row_count);
    r.flags = arena_alloc(arena, sizeof *r.flags * spec->row_count);
    enum status status = walk_words(&r, argc, argv);
    if (status != STATUS_OK || result->exit_now)
        return status;
    take_defaults(&r);
    if (r.config == NULL)
        r.config = env_get(arena, config_row.name);
    if (r.config != NULL)
        status = take_file(&r);
    if (status == STATUS_OK)
        status = take_environment(&r);
    if (status == STATUS_OK)
        status = take_flags(&r);
    return status == STATUS_OK ? check_required(&r) : status;
}
