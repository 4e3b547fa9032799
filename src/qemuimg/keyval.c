#include "qemuimg/keyval.h"

#include <jansson.h>
#include <string.h>

static void
add(QimgKeyval *pairs, char *name, char *value)
{
    g_ptr_array_add(pairs, name);
    g_ptr_array_add(pairs, value);
}

/* A value up to a comma that stands alone; *at is left behind that comma. */
static char *
take_value(const char **at)
{
    GString *value = g_string_new(NULL);

    for (; **at; (*at)++) {
        if (**at == ',' && *++(*at) != ',')
            break;
        g_string_append_c(value, **at);
    }
    return g_string_free(value, FALSE);
}

QimgKeyval *
qimg_keyval_parse(const char *text, const char *implied, char **fault)
{
    g_autoptr(QimgKeyval) pairs = g_ptr_array_new_with_free_func(g_free);

    for (const char *at = text; *at;) {
        gsize len = strcspn(at, "=,");
        gboolean is_first = at == text;

        if (at[len] == '=') {
            char *name = g_strndup(at, len);
            at += len + 1;
            add(pairs, name, take_value(&at));
        } else if (is_first && implied) {
            add(pairs, g_strdup(implied), take_value(&at));
        } else {
            *fault = g_strdup_printf("Expected '=' after parameter '%.*s'", (int) len, at);
            return NULL;
        }
    }
    return g_steal_pointer(&pairs);
}

static gboolean
flatten(QimgKeyval *pairs, const char *name, json_t *value, char **fault)
{
    const char *key;
    json_t *member;

    if (json_is_object(value)) {
        json_object_foreach (value, key, member) {
            g_autofree char *path = *name ? g_strconcat(name, ".", key, NULL) : g_strdup(key);
            if (!flatten(pairs, path, member, fault))
                return FALSE;
        }
        return TRUE;
    }
    char *text = json_is_string(value)    ? g_strdup(json_string_value(value))
                 : json_is_boolean(value) ? g_strdup(json_is_true(value) ? "on" : "off")
                 : json_is_integer(value)
                     ? g_strdup_printf("%" JSON_INTEGER_FORMAT, json_integer_value(value))
                     : NULL;
    if (!text) {
        *fault = g_strdup_printf("Invalid parameter type for '%s'", name);
        return FALSE;
    }
    add(pairs, g_strdup(name), text);
    return TRUE;
}

QimgKeyval *
qimg_keyval_parse_json(const char *text, char **fault)
{
    g_autoptr(QimgKeyval) pairs = g_ptr_array_new_with_free_func(g_free);
    json_error_t where;
    json_t *root = json_loads(text, 0, &where);

    if (!json_is_object(root)) {
        json_decref(root);
        *fault = g_strdup(root ? "Invalid JSON: an object is wanted" : "JSON parse error, invalid text");
        return NULL;
    }
    gboolean good = flatten(pairs, "", root, fault);
    json_decref(root);
    return good ? g_steal_pointer(&pairs) : NULL;
}

const char *
qimg_keyval_get(const QimgKeyval *pairs, const char *name)
{
    for (guint i = pairs->len; i >= 2; i -= 2)
        if (g_str_equal(pairs->pdata[i - 2], name))
            return pairs->pdata[i - 1];
    return NULL;
}
