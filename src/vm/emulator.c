#include "vm/emulator.h"

#include "base/error.h"
#include "base/num.h"
#include "base/pipe.h"
#include "base/spawn.h"
#include "vm/savefile.h"

#include <string.h>

#define TIMEOUT_MS 10000
#define LINE_START "QEMU emulator version "

char *
vm_emulator_version(const char *emulator)
{
    const char *const argv[] = { emulator, "--version", NULL };
    const SpawnSpec spec = { .argv = argv };
    SpawnResult result = { 0 };
    char *version = NULL;

    if (!spawn_run(&spec, deadline_in(TIMEOUT_MS), &result, NULL))
        return NULL;
    if (result.status == 0 && g_str_has_prefix(result.out, LINE_START)) {
        const char *from = result.out + strlen(LINE_START);
        version = g_strndup(from, strspn(from, "0123456789."));
    }
    spawn_result_clear(&result);
    return version;
}

/* "7.2.11" as VM_QEMU_VERSION; 0 for what is none. */
static guint32
version_number(const char *text)
{
    g_auto(GStrv) words = g_strsplit(text ? text : "", ".", 4);
    guint64 parts[3] = { 0 };

    for (guint i = 0; i < 3 && words[i]; i++)
        if (!num_parse_uint(words[i], 99, "version", &parts[i], NULL))
            return 0;
    return VM_QEMU_VERSION((guint32) parts[0], (guint32) parts[1], (guint32) parts[2]);
}

gboolean
vm_emulator_check_memory(const char *emulator, guint32 wrote, const char *label, GError **error)
{
    g_autofree char *there = vm_emulator_version(emulator);
    guint32 version = version_number(there);

    if (version == 0)
        return fail(error, KHO_ERROR_UNSUPPORTED, "%s: the QEMU that is to take it, %s, tells no version",
                    label, emulator);
    return version >= wrote
           || fail(error, KHO_ERROR_UNSUPPORTED,
                   "%s was written by QEMU %u.%u.%u, and %s is QEMU %s: memory cannot go to an older one",
                   label, wrote / 10000, wrote / 100 % 100, wrote % 100, emulator, there);
}
