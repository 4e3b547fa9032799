#include "cli/img_snapshots.h"

#include "base/num.h"
#include "cli/output.h"

#include <jansson.h>

json_t *
img_snapshots_json(const GPtrArray *snapshots)
{
    json_t *list = json_array();

    for (guint i = 0; i < snapshots->len; i++) {
        const KhoImageSnapshot *s = g_ptr_array_index(snapshots, i);
        json_t *one = json_object();

        json_object_set_new(one, "id", json_string(s->id));
        json_object_set_new(one, "name", json_string(s->name));
        json_object_set_new(one, "vm-state-size", json_integer((json_int_t) s->vm_state_bytes));
        json_object_set_new(one, "date-sec", json_integer(s->date_s));
        json_object_set_new(one, "date-nsec", json_integer(s->date_ns));
        json_object_set_new(one, "vm-clock-sec", json_integer((json_int_t) (s->vm_clock_ns / 1000000000)));
        json_object_set_new(one, "vm-clock-nsec", json_integer((json_int_t) (s->vm_clock_ns % 1000000000)));
        if (s->icount >= 0)
            json_object_set_new(one, "icount", json_integer(s->icount));
        json_array_append_new(list, one);
    }
    return list;
}

void
img_print_snapshots(const GPtrArray *snapshots)
{
    out_print("Snapshot list:\n%-10s%-17s%8s%20s%13s%11s\n", "ID", "TAG", "VM SIZE", "DATE", "VM CLOCK",
              "ICOUNT");
    for (guint i = 0; i < snapshots->len; i++) {
        const KhoImageSnapshot *s = g_ptr_array_index(snapshots, i);
        g_autofree char *state = num_format_size(s->vm_state_bytes);
        g_autoptr(GDateTime) date = g_date_time_new_from_unix_local(s->date_s);
        g_autofree char *when = date ? g_date_time_format(date, "%Y-%m-%d %H:%M:%S") : g_strdup("-");
        guint64 ms = s->vm_clock_ns / 1000000;
        g_autofree char *clock =
            g_strdup_printf("%02d:%02d:%02d.%03d", (int) (ms / 3600000), (int) (ms / 60000 % 60),
                            (int) (ms / 1000 % 60), (int) (ms % 1000));
        g_autofree char *icount =
            s->icount >= 0 ? g_strdup_printf("%" G_GINT64_FORMAT, s->icount) : g_strdup("");

        out_print("%-9s %-16s %8s%20s%13s%11s\n", s->id, s->name, state, when, clock, icount);
    }
}
