#include "vm/qmp.h"

#include "base/error.h"

#include <string.h>

/* Bytes before `start` are done with, [start, scanned) belong to a message that has begun (depth > 0). */
struct QmpDecoder {
    GByteArray *bytes;
    gsize start, scanned, max_bytes;
    guint depth;
    gboolean in_string, escaped;
};

QmpDecoder *
qmp_decoder_new(gsize max_bytes)
{
    QmpDecoder *d = g_new0(QmpDecoder, 1);
    d->bytes = g_byte_array_new();
    d->max_bytes = max_bytes;
    return d;
}

void
qmp_decoder_free(QmpDecoder *d)
{
    if (!d)
        return;
    g_byte_array_unref(d->bytes);
    g_free(d);
}

void
qmp_decoder_feed(QmpDecoder *d, const void *bytes, gsize len)
{
    if (d->start > 0) {
        g_byte_array_remove_range(d->bytes, 0, (guint) d->start);
        d->scanned -= d->start;
        d->start = 0;
    }
    g_byte_array_append(d->bytes, bytes, (guint) len);
}

/* One byte within a message; TRUE when it was the last one. */
static gboolean
scan_inside(QmpDecoder *d, guint8 byte)
{
    if (d->in_string) {
        if (d->escaped)
            d->escaped = FALSE;
        else if (byte == '\\')
            d->escaped = TRUE;
        else if (byte == '"')
            d->in_string = FALSE;
        return FALSE;
    }
    if (byte == '"')
        d->in_string = TRUE;
    else if (byte == '{' || byte == '[')
        d->depth++;
    else if (byte == '}' || byte == ']')
        d->depth--;
    return d->depth == 0;
}

/* Moves on to the end of a message; FALSE in *whole when there is none yet. */
static gboolean
scan(QmpDecoder *d, gboolean *whole, GError **error)
{
    *whole = FALSE;
    for (; !*whole && d->scanned < d->bytes->len; d->scanned++) {
        guint8 byte = d->bytes->data[d->scanned];
        if (d->depth > 0) {
            *whole = scan_inside(d, byte);
        } else if (byte == '{') {
            d->start = d->scanned;
            d->depth = 1;
        } else if (!g_ascii_isspace(byte)) {
            return fail(error, KHO_ERROR_INVALID, "not QMP: byte 0x%02x where a message should begin", byte);
        }
        if (d->scanned - d->start >= d->max_bytes && d->depth > 0)
            return fail(error, KHO_ERROR_INVALID, "not QMP: a message of more than %" G_GSIZE_FORMAT " bytes",
                        d->max_bytes);
    }
    return TRUE;
}

gboolean
qmp_decoder_next(QmpDecoder *d, json_t **message, GError **error)
{
    gboolean whole;
    json_t *found = NULL;

    if (!scan(d, &whole, error))
        return FALSE;
    if (whole) {
        found = json_parse((const char *) d->bytes->data + d->start, d->scanned - d->start, "a QMP message",
                           error);
        if (!found)
            return FALSE;
    }
    if (d->depth == 0)
        d->start = d->scanned;
    *message = found;
    return TRUE;
}

json_t *
qmp_command(const char *command, json_t *arguments, json_t *id)
{
    json_t *message = json_object();

    json_object_set_new(message, "execute", json_string(command));
    if (arguments)
        json_object_set_new(message, "arguments", arguments);
    if (id)
        json_object_set_new(message, "id", id);
    return message;
}

static json_t *
reply(const char *key, json_t *value, json_t *id)
{
    json_t *message = json_object();

    json_object_set_new(message, key, value);
    if (id)
        json_object_set(message, "id", id);
    return message;
}

json_t *
qmp_return(json_t *value, json_t *id)
{
    return reply("return", value ? value : json_object(), id);
}

json_t *
qmp_error(const GError *why, json_t *id)
{
    json_t *said = json_object();

    json_set_string(said, "class", "GenericError");
    json_set_string(said, "desc", why->message);
    json_set_string(said, "kho-code", kho_error_code_name((KhoErrorCode) why->code));
    return reply("error", said, id);
}

json_t *
qmp_error_unknown(const char *desc, json_t *id)
{
    json_t *said = json_object();

    json_set_string(said, "class", "CommandNotFound");
    json_set_string(said, "desc", desc);
    return reply("error", said, id);
}

static KhoErrorCode
code_of(const json_t *said)
{
    const char *own = json_string_or(said, "kho-code", "");
    const char *class = json_string_or(said, "class", "");

    for (gint code = 0; code < KHO_ERROR_N_CODES; code++)
        if (strcmp(own, kho_error_code_name((KhoErrorCode) code)) == 0)
            return (KhoErrorCode) code;
    if (strcmp(class, "CommandNotFound") == 0)
        return KHO_ERROR_UNSUPPORTED;
    if (strcmp(class, "DeviceNotFound") == 0)
        return KHO_ERROR_NOT_FOUND;
    return KHO_ERROR_INVALID;
}

gboolean
qmp_fail(const json_t *message, const char *command, GError **error)
{
    const json_t *said = json_object_get(message, "error");
    g_autofree char *desc = error_one_line(json_string_or(said, "desc", "it gave no reason"));

    if (json_object_get(said, "kho-code"))
        return fail(error, code_of(said), "%s", desc);
    return fail(error, code_of(said), "QEMU refused %s: %s", command, desc);
}

char *
qmp_line(const json_t *message, gsize *len)
{
    g_autofree char *text = json_line(message);
    char *line = g_strconcat(text, "\n", NULL);

    *len = strlen(line);
    return line;
}
