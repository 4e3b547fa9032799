/* A machine as a plain struct, and its XML in both directions. Pure: no file is opened here, nothing is
 * looked up on the host. QEMU's arguments are made of it in vm/argv.h; names are checked against the tree's
 * rules by store/. */
#ifndef KHO_MODEL_DOMAIN_H
#define KHO_MODEL_DOMAIN_H

#include "model/device.h"

typedef enum { MODEL_DOMAIN_UNSET, MODEL_DOMAIN_KVM, MODEL_DOMAIN_QEMU } ModelDomainType;

/* All words parse; vm/argv refuses those that cannot be acted on yet. */
typedef enum {
    MODEL_ACTION_UNSET,
    MODEL_ACTION_DESTROY,
    MODEL_ACTION_RESTART,
    MODEL_ACTION_PRESERVE,
    MODEL_ACTION_RENAME_RESTART,
    MODEL_ACTION_COREDUMP_DESTROY, /* on_crash only, as the next one */
    MODEL_ACTION_COREDUMP_RESTART
} ModelAction;

/* <boot dev='...'/> under os, in order. */
typedef struct {
    ModelNode node;
    gint dev; /* ModelBootDev */
} ModelBoot;

typedef enum {
    MODEL_BOOT_UNSET,
    MODEL_BOOT_HD,
    MODEL_BOOT_CDROM,
    MODEL_BOOT_NETWORK,
    MODEL_BOOT_FD
} ModelBootDev;

typedef struct {
    ModelNode node;
    char *name;
    gint policy; /* ModelPolicy */
} ModelCpuFeature;

typedef enum {
    MODEL_POLICY_UNSET,
    MODEL_POLICY_FORCE,
    MODEL_POLICY_REQUIRE,
    MODEL_POLICY_OPTIONAL,
    MODEL_POLICY_DISABLE,
    MODEL_POLICY_FORBID
} ModelPolicy;

typedef enum {
    MODEL_CPU_UNSET,
    MODEL_CPU_CUSTOM,
    MODEL_CPU_HOST_MODEL,
    MODEL_CPU_HOST_PASSTHROUGH,
    MODEL_CPU_MAXIMUM
} ModelCpuMode;

typedef enum {
    MODEL_CLOCK_UNSET,
    MODEL_CLOCK_UTC,
    MODEL_CLOCK_LOCALTIME,
    MODEL_CLOCK_TIMEZONE,
    MODEL_CLOCK_VARIABLE,
    MODEL_CLOCK_ABSOLUTE
} ModelClockOffset;

typedef struct {
    ModelNode node;
    char *name; /* rtc, pit, hpet, kvmclock, tsc, ... */
    ModelSwitch present;
    char *tickpolicy; /* delay, catchup, merge, discard */
    char *track;
} ModelTimer;

typedef struct {
    ModelNode node;
    ModelDomainType type;
    gint id;    /* live only; MODEL_UNSET otherwise */
    char *name; /* never NULL after parsing */
    char *uuid; /* canonical lower-case text; NULL until model_domain_complete when the text has none */
    char *title, *description;
    guint64 memory_kib, current_memory_kib;
    guint vcpu_line, topology_line; /* in the text, for messages; 0 when not given there */
    gint vcpus, current_vcpus;      /* current: MODEL_UNSET when all are */
    char *vcpu_placement, *cpuset;

    char *os_firmware, *os_type, *arch, *machine;
    char *loader, *loader_type, *nvram;
    ModelSwitch loader_readonly, loader_secure;
    char *kernel, *initrd, *cmdline;
    GPtrArray *boots; /* ModelBoot */
    ModelSwitch boot_menu;
    gint boot_menu_timeout_ms;

    gboolean acpi, apic, pae;
    ModelSwitch vmport, smm, pmu, kvm_hidden;

    ModelCpuMode cpu_mode;
    char *cpu_match, *cpu_check, *cpu_model, *cpu_fallback, *cpu_vendor;
    ModelSwitch cpu_migratable;
    gint sockets, dies, cores, threads;
    GPtrArray *cpu_features; /* ModelCpuFeature */

    ModelClockOffset clock_offset;
    char *timezone, *clock_adjustment, *clock_basis, *clock_start;
    GPtrArray *timers; /* ModelTimer */
    ModelAction on_poweroff, on_reboot, on_crash;
    ModelSwitch suspend_to_mem, suspend_to_disk;

    char *emulator;
    GPtrArray *disks;       /* ModelDisk */
    GPtrArray *controllers; /* ModelController */
    GPtrArray *interfaces;  /* ModelInterface */
    GPtrArray *serials;     /* ModelChardev */
    GPtrArray *consoles;    /* ModelChardev; the first mirrors the first serial */
    GPtrArray *channels;    /* ModelChardev */
    GPtrArray *inputs;      /* ModelInput */
    GPtrArray *graphics;    /* ModelGraphics */
    GPtrArray *videos;      /* ModelVideo */
    GPtrArray *balloons;    /* ModelBalloon: one at most */
    GPtrArray *rngs;        /* ModelRng */
    GPtrArray *panics;      /* ModelPanic: without one, on_crash has nothing to act on */
} ModelDomain;              /* the lists are never NULL */

/* What the host brings to a definition. */
typedef struct {
    const char *emulator; /* "/usr/bin/qemu-system-x86_64" */
    const char *arch;     /* "x86_64" */
    const char *machine;  /* "pc": used when the text names none */
} ModelDefaults;

/* Text to struct. Values are checked one by one (words, ranges), unknown content is kept. Nothing is filled
 * in. KHO_ERROR_INVALID with line and column for malformed XML, with line, element, value and what would do
 * for a bad value. */
ModelDomain *model_domain_parse(const char *text, gsize len, GError **error);

/* Fills in what the text left out (uuid, currentMemory, vcpu, on_*, clock, boot, formats, buses, MACs, the
 * serial/console pair, balloon, video, controllers, emulator) and strips what only a live machine has: the
 * step from a person's text to the definition that is stored. Then checks what spans elements (targets
 * unique, one kind of boot order, ...). Idempotent. */
gboolean model_domain_complete(ModelDomain *domain, const ModelDefaults *defaults, GError **error);

typedef enum {
    MODEL_FORMAT_INACTIVE, /* the definition: no id, aliases, ptys */
    MODEL_FORMAT_LIVE
} ModelFormatKind;

/* Struct to text in libvirt's layout: 2 spaces, single quotes, trailing newline. */
char *model_domain_format(const ModelDomain *domain, ModelFormatKind kind);

/* Takes away what only a live machine has: id, aliases but "ua-...", ptys, ports that were chosen for it. */
void model_domain_strip_live(ModelDomain *domain);

/* What was kept without being understood, as "<sound> in line 40" or "attribute 'x' of <disk> in line 12". */
GPtrArray *model_domain_unknown(const ModelDomain *domain);

/* Gives every device that has none its alias as libvirt words it: virtio-disk0, ide0-0-1, net0, serial0, ...
 * They are QEMU's device ids. For the live copy of a definition only. */
void model_domain_assign_aliases(ModelDomain *domain);

/* A deep copy, with unknown content. */
ModelDomain *model_domain_copy(const ModelDomain *domain);
void model_domain_free(ModelDomain *domain);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ModelDomain, model_domain_free)

/* The disk whose target or source file is @name, or NULL. */
ModelDisk *model_domain_disk(const ModelDomain *domain, const char *name);

/* Lets each disk whose source file is @from have @to with @format instead; whether there was one. */
gboolean model_domain_move_disk(ModelDomain *domain, const char *from, const char *to, const char *format);

/* Words as the XML has them; NULL for UNSET. */
const char *model_action_word(ModelAction action);
const char *model_domain_type_word(ModelDomainType type);
const char *model_boot_dev_word(ModelBootDev dev);

/* The table that drives all of this, for walks over what was kept. */
extern const ModelTable model_domain_table, model_boot_table;

#endif
