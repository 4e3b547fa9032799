/* Names from outside: of images and servers' disks as headers and command lines have them, of machines,
 * points and volumes, and the first bytes that tell a format. What is admitted keeps to its rules; what is
 * not is told in one line. */
#include "base/error.h"
#include "block/nbd_address.h"
#include "foreign/formats.h"
#include "image/image.h"
#include "store/tree.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void
try_address(const char *name)
{
    g_autoptr(GError) error = NULL;

    if (!nbd_address_is(name))
        return;
    g_autoptr(NbdAddress) address = nbd_address_parse(name, &error);
    if (!address) {
        g_assert_true(error->code == KHO_ERROR_INVALID || error->code == KHO_ERROR_UNSUPPORTED);
        return;
    }
    g_assert_nonnull(address->export_name);
    if (address->socket)
        g_assert_cmpstr(address->socket, !=, "");
    else
        g_assert_true(address->host && *address->host && address->port && *address->port);
}

/* @name as the header of an image in another folder has it. */
static void
try_backing(const char *name)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *path = image_backing_path("/srv/over.qcow2", name, &error);

    if (!path)
        g_assert_null(strchr(error->message, '\n'));
    else if (!nbd_address_is(name))
        g_assert_true(g_path_is_absolute(path));
}

static void
try_name(const char *name, gboolean (*check)(const char *, const char *, GError **))
{
    g_autoptr(GError) error = NULL;

    if (!check(name, "point", &error)) {
        g_assert_cmpint(error->code, ==, KHO_ERROR_INVALID);
        g_assert_null(strchr(error->message, '\n'));
        return;
    }
    g_assert_true(g_utf8_validate(name, -1, NULL));
    g_assert_true(*name && strlen(name) <= 200 && !strpbrk(name, "/\n\r\t\x1b"));
    g_assert_true(name[0] != '.' && name[0] != '-');
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    g_autofree char *text = g_strndup((const char *) data, len);
    const char *format = foreign_format_probe(data, MIN(len, 512));

    g_assert_true(!format || foreign_format_find(format) == format);
    try_address(text);
    try_backing(text);
    try_name(text, store_name_check);
    try_name(text, store_file_name_check);
    return 0;
}
