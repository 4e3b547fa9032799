#include "model/domain.h"

#include "base/error.h"
#include "model/device_table.h"
#include "model/table.h"

#include <string.h>

/* Words stand in the order of their enums; [0] is absence. */
static const char *const domain_types[] = { "", "kvm", "qemu", NULL };
static const char *const crash_actions[] = {
    "", "destroy", "restart", "preserve", "rename-restart", "coredump-destroy", "coredump-restart", NULL
};
static const char *const actions[] = { "", "destroy", "restart", "preserve", "rename-restart", NULL };
static const char *const boot_devs[] = { "", "hd", "cdrom", "network", "fd", NULL };
static const char *const policies[] = { "", "force", "require", "optional", "disable", "forbid", NULL };
static const char *const cpu_modes[] = { "", "custom", "host-model", "host-passthrough", "maximum", NULL };
static const char *const cpu_matches[] = { "", "exact", "minimum", "strict", NULL };
static const char *const cpu_checks[] = { "", "none", "partial", "full", NULL };
static const char *const cpu_fallbacks[] = { "", "allow", "forbid", NULL };
static const char *const clock_offsets[] = {
    "", "utc", "localtime", "timezone", "variable", "absolute", NULL
};
static const char *const timer_policies[] = { "", "delay", "catchup", "merge", "discard", NULL };
static const char *const loader_types[] = { "", "rom", "pflash", "none", NULL };
static const char *const firmwares[] = { "", "bios", "efi", NULL };
static const char *const placements[] = { "", "static", "auto", NULL };

static const ModelRow boot_rows[] = { ROW_WORD("@dev", ModelBoot, dev, boot_devs) };
const ModelTable model_boot_table = TABLE("boot", ModelBoot, boot_rows);

static const ModelRow cpu_feature_rows[] = {
    ROW_WORD("@policy", ModelCpuFeature, policy, policies),
    ROW("@name", MODEL_STRING, ModelCpuFeature, name),
};
static const ModelTable cpu_feature_table = TABLE("feature", ModelCpuFeature, cpu_feature_rows);

static const ModelRow timer_rows[] = {
    ROW("@name", MODEL_STRING, ModelTimer, name),
    ROW("@present", MODEL_YES, ModelTimer, present),
    ROW_ONE_OF("@tickpolicy", ModelTimer, tickpolicy, timer_policies),
    ROW("@track", MODEL_STRING, ModelTimer, track),
};
static const ModelTable timer_table = TABLE("timer", ModelTimer, timer_rows);

/* In the order of output. The bounds of numbers are QEMU's or wider: vm/argv knows the machine's own. */
static const ModelRow domain_rows[] = {
    ROW_WORD("@type", ModelDomain, type, domain_types),
    ROW_NUMBER("@id", ModelDomain, id, 0, G_MAXINT),
    ROW("/name", MODEL_STRING, ModelDomain, name),
    ROW("/uuid", MODEL_UUID, ModelDomain, uuid),
    ROW("/title", MODEL_STRING, ModelDomain, title),
    ROW("/description", MODEL_STRING, ModelDomain, description),
    ROW_KEEP("/metadata"),
    ROW("/memory", MODEL_KIB, ModelDomain, memory_kib),
    ROW("/currentMemory", MODEL_KIB, ModelDomain, current_memory_kib),
    ROW_NUMBER_AT("/vcpu", ModelDomain, vcpus, 1, 4096, vcpu_line),
    ROW_ONE_OF("/vcpu@placement", ModelDomain, vcpu_placement, placements),
    ROW("/vcpu@cpuset", MODEL_STRING, ModelDomain, cpuset),
    ROW_NUMBER("/vcpu@current", ModelDomain, current_vcpus, 1, 4096),

    ROW_ONE_OF("/os@firmware", ModelDomain, os_firmware, firmwares),
    ROW("/os/type", MODEL_STRING, ModelDomain, os_type),
    ROW("/os/type@arch", MODEL_STRING, ModelDomain, arch),
    ROW("/os/type@machine", MODEL_STRING, ModelDomain, machine),
    ROW("/os/loader", MODEL_STRING, ModelDomain, loader),
    ROW("/os/loader@readonly", MODEL_YES, ModelDomain, loader_readonly),
    ROW("/os/loader@secure", MODEL_YES, ModelDomain, loader_secure),
    ROW_ONE_OF("/os/loader@type", ModelDomain, loader_type, loader_types),
    ROW("/os/nvram", MODEL_STRING, ModelDomain, nvram),
    ROW("/os/kernel", MODEL_STRING, ModelDomain, kernel),
    ROW("/os/initrd", MODEL_STRING, ModelDomain, initrd),
    ROW("/os/cmdline", MODEL_STRING, ModelDomain, cmdline),
    ROW_LIST("/os/boot", ModelDomain, boots, &model_boot_table),
    ROW("/os/bootmenu@enable", MODEL_YES, ModelDomain, boot_menu),
    ROW_NUMBER("/os/bootmenu@timeout", ModelDomain, boot_menu_timeout_ms, 0, 65535),

    ROW("/features/acpi", MODEL_FLAG, ModelDomain, acpi),
    ROW("/features/apic", MODEL_FLAG, ModelDomain, apic),
    ROW("/features/pae", MODEL_FLAG, ModelDomain, pae),
    ROW("/features/kvm/hidden@state", MODEL_ON, ModelDomain, kvm_hidden),
    ROW("/features/pmu@state", MODEL_ON, ModelDomain, pmu),
    ROW("/features/vmport@state", MODEL_ON, ModelDomain, vmport),
    ROW("/features/smm@state", MODEL_ON, ModelDomain, smm),

    ROW_WORD("/cpu@mode", ModelDomain, cpu_mode, cpu_modes),
    ROW_ONE_OF("/cpu@match", ModelDomain, cpu_match, cpu_matches),
    ROW_ONE_OF("/cpu@check", ModelDomain, cpu_check, cpu_checks),
    ROW("/cpu@migratable", MODEL_ON, ModelDomain, cpu_migratable),
    ROW("/cpu/model", MODEL_STRING, ModelDomain, cpu_model),
    ROW_ONE_OF("/cpu/model@fallback", ModelDomain, cpu_fallback, cpu_fallbacks),
    ROW("/cpu/vendor", MODEL_STRING, ModelDomain, cpu_vendor),
    ROW_NUMBER_AT("/cpu/topology@sockets", ModelDomain, sockets, 1, 4096, topology_line),
    ROW_NUMBER_AT("/cpu/topology@dies", ModelDomain, dies, 1, 4096, topology_line),
    ROW_NUMBER_AT("/cpu/topology@cores", ModelDomain, cores, 1, 4096, topology_line),
    ROW_NUMBER_AT("/cpu/topology@threads", ModelDomain, threads, 1, 4096, topology_line),
    ROW_LIST("/cpu/feature", ModelDomain, cpu_features, &cpu_feature_table),

    ROW_WORD("/clock@offset", ModelDomain, clock_offset, clock_offsets),
    ROW("/clock@timezone", MODEL_STRING, ModelDomain, timezone),
    ROW("/clock@adjustment", MODEL_STRING, ModelDomain, clock_adjustment),
    ROW("/clock@basis", MODEL_STRING, ModelDomain, clock_basis),
    ROW("/clock@start", MODEL_STRING, ModelDomain, clock_start),
    ROW_LIST("/clock/timer", ModelDomain, timers, &timer_table),
    ROW_WORD("/on_poweroff", ModelDomain, on_poweroff, actions),
    ROW_WORD("/on_reboot", ModelDomain, on_reboot, actions),
    ROW_WORD("/on_crash", ModelDomain, on_crash, crash_actions),
    ROW("/pm/suspend-to-mem@enabled", MODEL_YES, ModelDomain, suspend_to_mem),
    ROW("/pm/suspend-to-disk@enabled", MODEL_YES, ModelDomain, suspend_to_disk),

    ROW("/devices/emulator", MODEL_STRING, ModelDomain, emulator),
    ROW_LIST("/devices/disk", ModelDomain, disks, &model_disk_table),
    ROW_LIST("/devices/controller", ModelDomain, controllers, &model_controller_table),
    ROW_LIST("/devices/interface", ModelDomain, interfaces, &model_interface_table),
    ROW_LIST("/devices/serial", ModelDomain, serials, &model_serial_table),
    ROW_LIST("/devices/console", ModelDomain, consoles, &model_console_table),
    ROW_LIST("/devices/channel", ModelDomain, channels, &model_channel_table),
    ROW_LIST("/devices/input", ModelDomain, inputs, &model_input_table),
    ROW_LIST("/devices/graphics", ModelDomain, graphics, &model_graphics_table),
    ROW_LIST("/devices/video", ModelDomain, videos, &model_video_table),
    ROW_LIST("/devices/memballoon", ModelDomain, balloons, &model_balloon_table),
    ROW_LIST("/devices/rng", ModelDomain, rngs, &model_rng_table),
    ROW_LIST("/devices/panic", ModelDomain, panics, &model_panic_table),
};
const ModelTable model_domain_table = TABLE("domain", ModelDomain, domain_rows);

static gboolean
check_required(const ModelDomain *d, GError **error)
{
    guint line = d->node.line;

    if (d->type == MODEL_DOMAIN_UNSET)
        return fail(error, KHO_ERROR_INVALID, "line %u: <domain> has no attribute 'type': give kvm or qemu",
                    line);
    if (!d->name || !*d->name)
        return fail(error, KHO_ERROR_INVALID, "line %u: <domain> has no <name>", line);
    if (d->memory_kib == 0)
        return fail(error, KHO_ERROR_INVALID, "line %u: <domain> has no <memory>", line);
    if (!d->os_type)
        return fail(error, KHO_ERROR_INVALID,
                    "line %u: <domain> has no <os> with a <type>: <os><type>hvm</type></os>", line);
    return TRUE;
}

ModelDomain *
model_domain_parse(const char *text, gsize len, GError **error)
{
    g_autoptr(ModelDomain) d = model_table_parse(&model_domain_table, text, len, error);

    if (!d || !check_required(d, error))
        return NULL;
    return g_steal_pointer(&d);
}

char *
model_domain_format(const ModelDomain *domain, ModelFormatKind kind)
{
    if (kind == MODEL_FORMAT_LIVE)
        return model_table_format(&domain->node);

    g_autoptr(ModelDomain) copy = model_domain_copy(domain);
    model_domain_strip_live(copy);
    return model_table_format(&copy->node);
}

GPtrArray *
model_domain_unknown(const ModelDomain *domain)
{
    return model_table_unknown_text(&domain->node);
}

ModelDomain *
model_domain_copy(const ModelDomain *domain)
{
    return model_table_copy(&domain->node);
}

void
model_domain_free(ModelDomain *domain)
{
    model_node_free(domain);
}

ModelDisk *
model_domain_disk(const ModelDomain *domain, const char *name)
{
    for (guint i = 0; i < domain->disks->len; i++) {
        ModelDisk *disk = g_ptr_array_index(domain->disks, i);
        if (g_strcmp0(disk->target, name) == 0 || g_strcmp0(disk->source_file, name) == 0)
            return disk;
    }
    return NULL;
}

gboolean
model_domain_move_disk(ModelDomain *domain, const char *from, const char *to, const char *format)
{
    gboolean found = FALSE;

    for (guint i = 0; i < domain->disks->len; i++) {
        ModelDisk *disk = g_ptr_array_index(domain->disks, i);
        g_autofree char *path = disk->source_file ? g_canonicalize_filename(disk->source_file, "/") : NULL;
        if (g_strcmp0(path, from) != 0)
            continue;
        g_free(disk->source_file);
        disk->source_file = g_strdup(to);
        g_free(disk->format);
        disk->format = g_strdup(format);
        found = TRUE;
    }
    return found;
}

const char *
model_action_word(ModelAction action)
{
    return action ? crash_actions[action] : NULL;
}

const char *
model_domain_type_word(ModelDomainType type)
{
    return type ? domain_types[type] : NULL;
}

const char *
model_boot_dev_word(ModelBootDev dev)
{
    return dev ? boot_devs[dev] : NULL;
}
