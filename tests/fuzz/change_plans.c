/* The plan of each kind of change, as a journal entry holds it for whoever goes on with the change: it opens,
 * or is refused in one line. The first byte says which kind, in the order of machine_changes. */
#include "base/json.h"
#include "host/recover.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    char nowhere[] = "/nowhere";
    const StoreTree tree = { .etc = nowhere, .lib = nowhere, .log = nowhere, .run = nowhere };
    g_autoptr(GError) error = NULL;
    gsize kinds = 0;

    while (machine_changes[kinds])
        kinds++;
    json_auto json_t *plan = len > 0 ? json_parse((const char *) data + 1, len - 1, "plan", NULL) : NULL;
    if (!plan)
        return 0;
    const ChangeKind *kind = machine_changes[data[0] % kinds];
    gpointer context = kind->open(plan, (gpointer) &tree, &error);
    g_assert_true((context != NULL) == (error == NULL));
    if (context)
        kind->close(context);
    else
        g_assert_null(strchr(error->message, '\n'));
    return 0;
}
