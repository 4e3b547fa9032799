#include "vm/emulator.h"

#include "base/pipe.h"
#include "base/spawn.h"

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
