/* Machine, accelerator, processors, memory, clock, firmware and direct kernel boot. */
#include "base/error.h"
#include "base/num.h"
#include "vm/argv_parts.h"

#include <string.h>

static gboolean
check_machine(Argv *a, GError **error)
{
    const ModelDomain *d = a->d;
    static const char *const pieces[] = { "firmware", "loader", "nvram" };
    const char *given[] = { d->os_firmware, d->loader, d->nvram };

    if (strcmp(d->os_type, "hvm") != 0)
        return argv_refuse(error, KHO_ERROR_UNSUPPORTED, &d->node, "has the os type '%s': only 'hvm' can run",
                           d->os_type);
    if (g_strcmp0(d->arch, "x86_64") != 0)
        return argv_refuse(error, KHO_ERROR_UNSUPPORTED, &d->node, "has the arch '%s': only 'x86_64' can run",
                           d->arch);
    if (!argv_is_word(d->machine)
        || !(a->q35 || strcmp(d->machine, "pc") == 0 || g_str_has_prefix(d->machine, "pc-i440fx-")))
        return argv_refuse(error, KHO_ERROR_UNSUPPORTED, &d->node,
                           "has the machine '%s': only pc and q35 machines can run", d->machine);
    for (gsize i = 0; i < G_N_ELEMENTS(given); i++)
        if (given[i] && strcmp(given[i], "bios") != 0)
            return argv_refuse(error, KHO_ERROR_UNSUPPORTED, &d->node,
                               "has %s '%s' under <os>: only the default firmware (bios) can run", pieces[i],
                               given[i]);
    if (d->type == MODEL_DOMAIN_KVM && !a->r->kvm)
        return argv_refuse(error, KHO_ERROR_UNSUPPORTED, &d->node,
                           "is of type 'kvm', but /dev/kvm cannot be used here: type 'qemu' runs without it");
    if (d->cpuset || strcmp(d->vcpu_placement, "static") != 0)
        return argv_refuse(error, KHO_ERROR_UNSUPPORTED, &d->node,
                           "has %s '%s' at <vcpu>: kho does not bind processors",
                           d->cpuset ? "cpuset" : "placement", d->cpuset ? d->cpuset : d->vcpu_placement);
    return TRUE;
}

static gboolean
check_actions(const ModelDomain *d, GError **error)
{
    static const char *const names[] = { "on_poweroff", "on_reboot", "on_crash" };
    const ModelAction actions[] = { d->on_poweroff, d->on_reboot, d->on_crash };

    for (gsize i = 0; i < G_N_ELEMENTS(names); i++)
        if (actions[i] > MODEL_ACTION_PRESERVE)
            return argv_refuse(error, KHO_ERROR_UNSUPPORTED, &d->node,
                               "has %s '%s': destroy, restart and preserve can be acted on", names[i],
                               model_action_word(actions[i]));
    return TRUE;
}

static const char *
on_off(ModelSwitch s)
{
    return s == MODEL_SWITCH_ON ? "on" : "off";
}

static const ModelTimer *
find_timer(const ModelDomain *d, const char *name)
{
    for (guint i = 0; i < d->timers->len; i++) {
        const ModelTimer *t = g_ptr_array_index(d->timers, i);
        if (g_strcmp0(t->name, name) == 0)
            return t;
    }
    return NULL;
}

static void
add_machine_options(Argv *a)
{
    const ModelDomain *d = a->d;
    GString *m = g_string_new(d->machine);
    const ModelTimer *hpet = find_timer(d, "hpet"), *pit = find_timer(d, "pit");

    g_string_append(m, ",usb=off,dump-guest-core=off");
    if (!d->acpi)
        g_string_append(m, ",acpi=off");
    if (d->vmport != MODEL_SWITCH_UNSET)
        g_string_append_printf(m, ",vmport=%s", on_off(d->vmport));
    if (d->smm != MODEL_SWITCH_UNSET)
        g_string_append_printf(m, ",smm=%s", on_off(d->smm));
    if (hpet && hpet->present != MODEL_SWITCH_UNSET)
        g_string_append_printf(m, ",hpet=%s", on_off(hpet->present));
    if (pit && pit->present == MODEL_SWITCH_OFF)
        g_string_append(m, ",pit=off");
    argv_add(a, "-machine", g_string_free(m, FALSE));
    argv_add(a, "-accel", g_strdup(d->type == MODEL_DOMAIN_KVM ? "kvm" : "tcg"));
}

/* ---- processors ---- */

static gboolean
cpu_base(Argv *a, GString *cpu, GError **error)
{
    const ModelDomain *d = a->d;
    gboolean kvm = d->type == MODEL_DOMAIN_KVM;

    switch (d->cpu_mode) {
    case MODEL_CPU_UNSET: break;
    case MODEL_CPU_CUSTOM:
        if (d->cpu_model && !argv_is_word(d->cpu_model))
            return argv_refuse(error, KHO_ERROR_INVALID, &d->node,
                               "has the cpu model '%s', which is no model's name", d->cpu_model);
        if (d->cpu_match && strcmp(d->cpu_match, "exact") != 0)
            return argv_refuse(error, KHO_ERROR_UNSUPPORTED, &d->node,
                               "has match '%s' at <cpu>: only 'exact' can run", d->cpu_match);
        g_string_assign(cpu, d->cpu_model ? d->cpu_model : "");
        break;
    case MODEL_CPU_MAXIMUM: g_string_assign(cpu, "max"); break;
    case MODEL_CPU_HOST_PASSTHROUGH:
        if (!kvm)
            return argv_refuse(error, KHO_ERROR_UNSUPPORTED, &d->node,
                               "has cpu mode 'host-passthrough', which needs type 'kvm': use 'maximum'");
        g_string_assign(cpu, "host");
        break;
    case MODEL_CPU_HOST_MODEL:
        return argv_refuse(error, KHO_ERROR_UNSUPPORTED, &d->node,
                           "has cpu mode 'host-model': use host-passthrough, maximum or custom");
    }
    if (d->cpu_vendor)
        return argv_refuse(error, KHO_ERROR_UNSUPPORTED, &d->node,
                           "has <vendor> under <cpu>: remove it to start");
    return TRUE;
}

static gboolean
cpu_features(Argv *a, GString *flags, GError **error)
{
    const ModelDomain *d = a->d;

    for (guint i = 0; i < d->cpu_features->len; i++) {
        const ModelCpuFeature *f = g_ptr_array_index(d->cpu_features, i);
        gboolean off = f->policy == MODEL_POLICY_DISABLE || f->policy == MODEL_POLICY_FORBID;
        if (!argv_is_word(f->name))
            return argv_refuse(error, KHO_ERROR_INVALID, &f->node, "has the name '%s', which is no feature's",
                               f->name);
        g_string_append_printf(flags, ",%s=%s", f->name, off ? "off" : "on");
    }
    if (d->cpu_migratable != MODEL_SWITCH_UNSET && d->cpu_mode != MODEL_CPU_CUSTOM)
        g_string_append_printf(flags, ",migratable=%s", on_off(d->cpu_migratable));
    if (g_strcmp0(d->cpu_check, "full") == 0)
        g_string_append(flags, ",enforce=on");
    const ModelTimer *kvmclock = find_timer(d, "kvmclock");
    if (kvmclock && kvmclock->present != MODEL_SWITCH_UNSET)
        g_string_append_printf(flags, ",kvmclock=%s", on_off(kvmclock->present));
    if (d->pmu != MODEL_SWITCH_UNSET)
        g_string_append_printf(flags, ",pmu=%s", on_off(d->pmu));
    if (d->kvm_hidden == MODEL_SWITCH_ON)
        g_string_append(flags, ",kvm=off");
    return TRUE;
}

static gboolean
add_cpu(Argv *a, GError **error)
{
    g_autoptr(GString) cpu = g_string_new(NULL);
    g_autoptr(GString) flags = g_string_new(NULL);

    if (!cpu_base(a, cpu, error) || !cpu_features(a, flags, error))
        return FALSE;
    if (!cpu->len && flags->len)
        g_string_assign(cpu, "qemu64"); /* QEMU's own default */
    if (cpu->len)
        argv_add(a, "-cpu", g_strconcat(cpu->str, flags->str, NULL));
    return TRUE;
}

static gboolean
add_smp(Argv *a, GError **error)
{
    const ModelDomain *d = a->d;
    gint max = a->q35 ? 288 : 255;
    GString *smp = g_string_new(NULL);

    if (d->vcpus > max) {
        g_string_free(smp, TRUE);
        return argv_refuse(error, KHO_ERROR_UNSUPPORTED, &d->node,
                           "has %d vcpus: machine '%s' takes at most %d", d->vcpus, d->machine, max);
    }
    g_string_printf(smp, "%d", d->current_vcpus == MODEL_UNSET ? d->vcpus : d->current_vcpus);
    if (d->current_vcpus != MODEL_UNSET)
        g_string_append_printf(smp, ",maxcpus=%d", d->vcpus);
    if (d->sockets != MODEL_UNSET)
        g_string_append_printf(smp, ",sockets=%d,dies=%d,cores=%d,threads=%d", d->sockets, d->dies, d->cores,
                               d->threads);
    else
        g_string_append_printf(smp, ",sockets=%d,cores=1,threads=1", d->vcpus);
    argv_add(a, "-smp", g_string_free(smp, FALSE));
    return TRUE;
}

/* ---- clock and booting ---- */

static gboolean
check_timers(Argv *a, GError **error)
{
    static const char *const known[] = { "rtc", "pit", "hpet", "kvmclock", "tsc" };

    for (guint i = 0; i < a->d->timers->len; i++) {
        const ModelTimer *t = g_ptr_array_index(a->d->timers, i);
        gboolean is_known = FALSE;
        for (gsize k = 0; k < G_N_ELEMENTS(known); k++)
            is_known |= g_strcmp0(t->name, known[k]) == 0;
        gboolean built_in = g_strcmp0(t->name, "tsc") == 0 || g_strcmp0(t->name, "rtc") == 0;
        if (!is_known || (built_in && t->present == MODEL_SWITCH_OFF))
            return argv_refuse(error, KHO_ERROR_UNSUPPORTED, &t->node,
                               "'%s' cannot be given to QEMU: remove it to start", t->name ? t->name : "");
        if (t->tickpolicy
            && (strcmp(t->tickpolicy, "merge") == 0
                || (strcmp(t->name, "rtc") != 0 && strcmp(t->name, "pit") != 0)))
            return argv_refuse(error, KHO_ERROR_UNSUPPORTED, &t->node,
                               "'%s' has tickpolicy '%s', which QEMU does not have", t->name, t->tickpolicy);
    }
    return TRUE;
}

static gboolean
add_clock(Argv *a, GError **error)
{
    const ModelDomain *d = a->d;
    const ModelTimer *rtc = find_timer(d, "rtc"), *pit = find_timer(d, "pit");
    gboolean variable = d->clock_offset == MODEL_CLOCK_VARIABLE
                        && g_strcmp0(d->clock_adjustment ? d->clock_adjustment : "0", "0") == 0;
    gboolean local =
        d->clock_offset == MODEL_CLOCK_LOCALTIME || (variable && g_strcmp0(d->clock_basis, "localtime") == 0);

    if (!check_timers(a, error))
        return FALSE;
    if (d->clock_offset != MODEL_CLOCK_UTC && !local && !variable)
        return argv_refuse(error, KHO_ERROR_UNSUPPORTED, &d->node,
                           "has a <clock> with an offset of its own: utc and localtime can run");
    if (d->clock_offset == MODEL_CLOCK_UTC && d->clock_adjustment
        && strcmp(d->clock_adjustment, "reset") != 0)
        return argv_refuse(error, KHO_ERROR_UNSUPPORTED, &d->node,
                           "has adjustment '%s' at <clock>: remove it to start", d->clock_adjustment);
    if (rtc && rtc->track && strcmp(rtc->track, "guest") != 0 && strcmp(rtc->track, "wall") != 0)
        return argv_refuse(error, KHO_ERROR_UNSUPPORTED, &rtc->node,
                           "'rtc' has track '%s': guest and wall can run", rtc->track);
    argv_add(a, "-rtc",
             g_strconcat("base=", local ? "localtime" : "utc",
                         rtc && g_strcmp0(rtc->track, "guest") == 0 ? ",clock=vm" : "",
                         rtc && g_strcmp0(rtc->tickpolicy, "catchup") == 0 ? ",driftfix=slew" : "", NULL));
    if (pit && pit->tickpolicy && d->type == MODEL_DOMAIN_KVM)
        argv_add(a, "-global",
                 g_strdup_printf("kvm-pit.lost_tick_policy=%s",
                                 strcmp(pit->tickpolicy, "catchup") == 0 ? "slew" : pit->tickpolicy));
    return TRUE;
}

static gboolean
add_boot(Argv *a, GError **error)
{
    const ModelDomain *d = a->d;
    GString *boot = g_string_new("strict=on");

    if (d->boot_menu != MODEL_SWITCH_UNSET)
        g_string_append_printf(boot, ",menu=%s", on_off(d->boot_menu));
    if (d->boot_menu == MODEL_SWITCH_ON && d->boot_menu_timeout_ms != MODEL_UNSET)
        g_string_append_printf(boot, ",splash-time=%d", d->boot_menu_timeout_ms);
    argv_add(a, "-boot", g_string_free(boot, FALSE));
    if (!d->kernel && (d->initrd || d->cmdline))
        return argv_refuse(error, KHO_ERROR_INVALID, &d->node, "has <%s> under <os> but no <kernel>",
                           d->initrd ? "initrd" : "cmdline");
    if (d->kernel)
        argv_add(a, "-kernel", g_strdup(d->kernel));
    if (d->initrd)
        argv_add(a, "-initrd", g_strdup(d->initrd));
    if (d->cmdline)
        argv_add(a, "-append", g_strdup(d->cmdline));
    return TRUE;
}

static void
add_sleep_states(Argv *a)
{
    const char *chip = a->q35 ? "ICH9-LPC" : "PIIX4_PM";

    if (a->d->suspend_to_mem != MODEL_SWITCH_UNSET)
        argv_add(a, "-global",
                 g_strdup_printf("%s.disable_s3=%d", chip, a->d->suspend_to_mem == MODEL_SWITCH_OFF));
    if (a->d->suspend_to_disk != MODEL_SWITCH_UNSET)
        argv_add(a, "-global",
                 g_strdup_printf("%s.disable_s4=%d", chip, a->d->suspend_to_disk == MODEL_SWITCH_OFF));
}

gboolean
argv_add_machine(Argv *a, GError **error)
{
    if (!check_machine(a, error) || !check_actions(a->d, error))
        return FALSE;
    add_machine_options(a);
    if (!add_cpu(a, error))
        return FALSE;
    /* Whole MiB, as the firmware counts; kho-vm makes currentMemory of it with the balloon. */
    argv_add(a, "-m", g_strdup_printf("size=%" G_GUINT64_FORMAT "k", num_align_up(a->d->memory_kib, 1024)));
    argv_add(a, "-overcommit", g_strdup("mem-lock=off"));
    if (!add_smp(a, error) || !add_clock(a, error) || !add_boot(a, error))
        return FALSE;
    add_sleep_states(a);
    return TRUE;
}
