#include "base/json.h"

#include "base/error.h"

#include <string.h>

json_t *
json_parse(const char *text, gsize len, const char *label, GError **error)
{
    json_error_t why;
    json_t *json = json_loadb(text, len, JSON_ALLOW_NUL, &why);

    if (!json && json_error_code(&why) == json_error_numeric_overflow)
        json = json_loadb(text, len, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &why);
    if (!json) {
        g_autofree char *said = error_one_line(why.text);
        fail(error, KHO_ERROR_INVALID, "%s is not JSON: line %d, column %d: %s", label, why.line, why.column,
             said);
        return NULL;
    }
    if (!json_is_object(json)) {
        json_decref(json);
        fail(error, KHO_ERROR_INVALID, "%s is not a JSON object", label);
        return NULL;
    }
    return json;
}

char *
json_line(const json_t *json)
{
    char *text = json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY);
    char *copy = g_strdup(text);

    free(text);
    return copy;
}

char *
json_text(const json_t *json)
{
    char *text = json_dumps(json, JSON_INDENT(2) | JSON_ENCODE_ANY);
    char *copy = g_strconcat(text, "\n", NULL);

    free(text);
    return copy;
}

typedef enum { ABSENT, PRESENT, WRONG } Found;

/* Looks @key up: a member of type @type is PRESENT; null counts as missing. */
static Found
find(const json_t *object, const char *key, const char *label, json_type type, json_t **value, GError **error)
{
    static const char *const words[] = {
        [JSON_OBJECT] = "an object",       [JSON_ARRAY] = "a list",       [JSON_STRING] = "a string",
        [JSON_INTEGER] = "a whole number", [JSON_TRUE] = "true or false",
    };

    *value = json_object_get(object, key);
    if (!*value || json_is_null(*value))
        return ABSENT;
    if (json_typeof(*value) == type || (type == JSON_TRUE && json_is_boolean(*value)))
        return PRESENT;
    fail(error, KHO_ERROR_INVALID, "%s: member '%s' is not %s", label, key, words[type]);
    return WRONG;
}

static gboolean
missing(const char *key, const char *label, GError **error)
{
    return fail(error, KHO_ERROR_INVALID, "%s: member '%s' is missing", label, key);
}

gboolean
json_get_string(const json_t *object, const char *key, const char *label, char **value, GError **error)
{
    char *copy = NULL;

    if (!json_opt_string(object, key, label, &copy, error))
        return FALSE;
    if (!copy)
        return missing(key, label, error);
    *value = copy;
    return TRUE;
}

gboolean
json_opt_string(const json_t *object, const char *key, const char *label, char **value, GError **error)
{
    json_t *member;
    Found found = find(object, key, label, JSON_STRING, &member, error);

    if (found != PRESENT)
        return found == ABSENT;
    /* A NUL inside would cut the copy: the same name would mean two things to two readers. */
    if (strlen(json_string_value(member)) != json_string_length(member))
        return fail(error, KHO_ERROR_INVALID, "%s: member '%s' holds a NUL character", label, key);
    *value = g_strdup(json_string_value(member));
    return TRUE;
}

gboolean
json_get_int(const json_t *object, const char *key, const char *label, gint64 *value, GError **error)
{
    const json_t *member = json_object_get(object, key);

    if (!member || json_is_null(member))
        return missing(key, label, error);
    return json_opt_int(object, key, label, value, error);
}

gboolean
json_opt_int(const json_t *object, const char *key, const char *label, gint64 *value, GError **error)
{
    json_t *member;
    Found found = find(object, key, label, JSON_INTEGER, &member, error);

    if (found == PRESENT)
        *value = json_integer_value(member);
    return found != WRONG;
}

gboolean
json_get_bool(const json_t *object, const char *key, const char *label, gboolean *value, GError **error)
{
    const json_t *member = json_object_get(object, key);

    if (!member || json_is_null(member))
        return missing(key, label, error);
    return json_opt_bool(object, key, label, value, error);
}

gboolean
json_opt_bool(const json_t *object, const char *key, const char *label, gboolean *value, GError **error)
{
    json_t *member;
    Found found = find(object, key, label, JSON_TRUE, &member, error);

    if (found == PRESENT)
        *value = json_is_true(member);
    return found != WRONG;
}

const char *
json_string_or(const json_t *object, const char *key, const char *fallback)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : fallback;
}

gint64
json_int_or(const json_t *object, const char *key, gint64 fallback)
{
    const json_t *member = json_object_get(object, key);
    return json_is_integer(member) ? json_integer_value(member) : fallback;
}

/* The bytes of one sequence as its first byte announces them, as many as there are; also of what UTF-8 once
 * had, up to six. */
static gsize
sequence_bytes(const char *at)
{
    guint8 first = (guint8) *at;
    gsize wanted = first < 0xc0   ? 1
                   : first < 0xe0 ? 2
                   : first < 0xf0 ? 3
                   : first < 0xf8 ? 4
                   : first < 0xfc ? 5
                   : first < 0xfe ? 6
                                  : 1;
    gsize n = 1;

    while (n < wanted && ((guint8) at[n] & 0xc0) == 0x80)
        n++;
    return n;
}

static gboolean
is_character(const char *at, gsize len)
{
    gunichar c = g_utf8_get_char_validated(at, (gssize) len);

    return c < 0x110000 && (c & 0xfffe) != 0xfffe && !(c >= 0xfdd0 && c <= 0xfdef);
}

json_t *
json_from_bytes(const char *bytes)
{
    if (!bytes)
        return NULL;
    g_autoptr(GString) text = g_string_sized_new(strlen(bytes));
    gsize len;

    for (const char *at = bytes; *at; at += len) {
        len = sequence_bytes(at);
        if (is_character(at, len))
            g_string_append_len(text, at, (gssize) len);
        else
            g_string_append(text, "\357\277\275"); /* U+FFFD */
    }
    return json_stringn(text->str, text->len);
}

void
json_set_string(json_t *object, const char *key, const char *value)
{
    if (value)
        json_object_set_new(object, key, json_from_bytes(value));
}
