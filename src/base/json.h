/* JSON: typed members with errors that name them, text in and out. The only place that includes jansson; what
 * members mean is the business of those who call. */
#ifndef KHO_BASE_JSON_H
#define KHO_BASE_JSON_H

#include <glib.h>
#include <jansson.h>

static inline void
json_decref_and_clear(json_t **json)
{
    json_decref(*json);
    *json = NULL;
}
#define json_auto __attribute__((cleanup(json_decref_and_clear)))

/* Hands the reference over: returns it and leaves NULL. */
static inline json_t *
json_steal(json_t **json)
{
    json_t *stolen = *json;
    *json = NULL;
    return stolen;
}

/* One JSON object, bounded by what the caller read; @label names it in messages. A whole number past 63 bits
 * (QEMU's "unknown" is 2^64 - 1) is read as a real one. NULL with KHO_ERROR_INVALID and the place of the
 * fault. */
json_t *json_parse(const char *text, gsize len, const char *label, GError **error);

/* One line without a line feed, members in the order they were set; freed with g_free. */
char *json_line(const json_t *json);
/* The same for people: indented, with a line feed at the end. */
char *json_text(const json_t *json);

/* Each fails with KHO_ERROR_INVALID naming @label and the member when it is missing or of another type or
 * range; the opt_ ones leave *value as it is when the member is missing or null. Strings are copies. */
gboolean
json_get_string(const json_t *object, const char *key, const char *label, char **value, GError **error);
gboolean
json_get_int(const json_t *object, const char *key, const char *label, gint64 *value, GError **error);
gboolean
json_get_bool(const json_t *object, const char *key, const char *label, gboolean *value, GError **error);
gboolean
json_opt_string(const json_t *object, const char *key, const char *label, char **value, GError **error);
gboolean
json_opt_int(const json_t *object, const char *key, const char *label, gint64 *value, GError **error);
gboolean
json_opt_bool(const json_t *object, const char *key, const char *label, gboolean *value, GError **error);

/* The string of a member, or @fallback; borrowed from @object. For what may be absent without being wrong. */
const char *json_string_or(const json_t *object, const char *key, const char *fallback);
gint64 json_int_or(const json_t *object, const char *key, gint64 fallback);

/* A string of what may not be UTF-8, as the name of a file or a message with one: each sequence of bytes that
 * is none, and each character that Unicode leaves undefined for good, becomes one U+FFFD, as QEMU writes it.
 * NULL is none. For what goes out to people and programs; a name that is to be opened again must be UTF-8. */
json_t *json_from_bytes(const char *bytes);

/* Sets a string member with json_from_bytes; NULL sets nothing. */
void json_set_string(json_t *object, const char *key, const char *value);

#endif
