/* Machines: look up, list, define, run, look at, end. Disk images are in kho/image.h, pools in kho/storage.h.
 */
#ifndef KHO_DOMAIN_H
#define KHO_DOMAIN_H

#include <kho/host.h>

/* libvirt's states, with its numbers. */
typedef enum {
    KHO_DOMAIN_NOSTATE,
    KHO_DOMAIN_RUNNING,
    KHO_DOMAIN_BLOCKED, /* never reported by kho */
    KHO_DOMAIN_PAUSED,
    KHO_DOMAIN_SHUTDOWN, /* "in shutdown" */
    KHO_DOMAIN_SHUTOFF,
    KHO_DOMAIN_CRASHED,
    KHO_DOMAIN_PMSUSPENDED,
    KHO_DOMAIN_N_STATES
} KhoDomainState;

/* "running", "shut off", ...; never NULL. */
KHO_PUBLIC const char *kho_domain_state_word(KhoDomainState state);

/* A machine that was found: a name and a uuid, valid while the host is open. Its state is asked for anew by
 * each call. */
typedef struct KhoDomain KhoDomain;

KHO_PUBLIC void kho_domain_free(KhoDomain *domain);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KhoDomain, kho_domain_free)

/* @which is matched as a name, then a uuid, then the id of a running machine. NULL with KHO_ERROR_NOT_FOUND.
 */
KHO_PUBLIC KhoDomain *kho_domain_lookup(KhoHost *host, const char *which, GError **error);
/* A machine whose definition is damaged, by its name, for kho_domain_undefine alone: its uuid is not known
 * (kho_domain_lookup refuses it). NULL with KHO_ERROR_NOT_FOUND where @name has none, _INVALID where it is
 * not damaged. */
KHO_PUBLIC KhoDomain *kho_domain_lookup_damaged(KhoHost *host, const char *name, GError **error);
KHO_PUBLIC const char *kho_domain_name(const KhoDomain *domain);
KHO_PUBLIC const char *kho_domain_uuid(const KhoDomain *domain);
/* Whether it has a definition; without one it exists for as long as it runs. */
KHO_PUBLIC gboolean kho_domain_is_persistent(const KhoDomain *domain);

typedef struct KhoDomainStatus {
    KhoDomainState state;
    char *reason;          /* libvirt's word: "booted", "user", "destroyed", "crashed", "unknown", ... */
    gint id;               /* -1 when it does not run */
    gint64 pid;            /* QEMU's; 0 when it does not run */
    gint64 since_ms;       /* wall clock of the last change of state; 0: not known */
    guint64 unanswered_ms; /* for how long QEMU has not answered; 0: it answers, or does not run */
    gboolean unsupervised; /* no kho-vm answered in time: what is told was read from the status file, and
                              verified against the process */
} KhoDomainStatus;

/**
 * kho_domain_status:
 *
 * Says what the machine does, within half a second whatever QEMU and kho-vm do: kho-vm is asked with a
 * deadline, and what it wrote down last is told where it does not answer. A machine whose kho-vm died is
 * adopted (a new kho-vm is started); one whose kho-vm and QEMU both died is cleaned up and is "shut off
 * (crashed)".
 */
KHO_PUBLIC gboolean kho_domain_status(KhoDomain *domain, KhoDomainStatus *status, GError **error);
KHO_PUBLIC void kho_domain_status_clear(KhoDomainStatus *status);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(KhoDomainStatus, kho_domain_status_clear)

/* A state and its reason as libvirt's numbers, for the wire: 0 is "unknown". */
KHO_PUBLIC gint kho_domain_reason_number(KhoDomainState state, const char *reason);

typedef struct KhoDomainEntry {
    char *name;
    char *uuid; /* NULL unless KHO_DOMAIN_LIST_DETAILS */
    KhoDomainStatus status;
    gboolean persistent, autostart, managed_save;
    gboolean damaged; /* its definition cannot be read; FALSE unless KHO_DOMAIN_LIST_DAMAGE or _DETAILS */
    char *title;      /* NULL unless KHO_DOMAIN_LIST_DETAILS, and where there is none */
} KhoDomainEntry;

KHO_PUBLIC void kho_domain_entry_free(KhoDomainEntry *entry);

typedef enum {
    KHO_DOMAIN_LIST_ACTIVE = 1 << 0,
    KHO_DOMAIN_LIST_INACTIVE = 1 << 1,
    KHO_DOMAIN_LIST_DETAILS = 1 << 2, /* uuid and title: reads every definition */
    KHO_DOMAIN_LIST_DAMAGE = 1 << 3,  /* damaged, as a glance at every definition tells */
} KhoDomainListFlags;

/* KhoDomainEntry *, owned by the array: those that run by id, the others by name. Without DETAILS and
 * DAMAGE no definition is read. */
KHO_PUBLIC GPtrArray *kho_domain_list(KhoHost *host, KhoDomainListFlags flags, GError **error);

typedef struct KhoDomainInfo {
    KhoDomainStatus status;
    char *os_type;
    guint64 max_memory_kib, memory_kib, cpu_time_ns /* 0 when it does not run */;
    guint vcpus;
    gboolean persistent, autostart, managed_save;
} KhoDomainInfo;

KHO_PUBLIC gboolean kho_domain_info(KhoDomain *domain, KhoDomainInfo *info, GError **error);
KHO_PUBLIC void kho_domain_info_clear(KhoDomainInfo *info);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(KhoDomainInfo, kho_domain_info_clear)

/* The XML: of the running machine, or with @inactive (and where none runs) the definition. */
KHO_PUBLIC char *kho_domain_xml(KhoDomain *domain, gboolean inactive, GError **error);

typedef struct KhoDomainDefineOptions {
    const char *expect_uuid; /* of the machine being edited; KHO_ERROR_INVALID when the XML has another */
    const char *expect_xml;  /* what was edited; KHO_ERROR_BUSY when the definition is another by now */
    gboolean refuse_unknown; /* KHO_ERROR_UNSUPPORTED where the XML has what kho does not know */
} KhoDomainDefineOptions;

/**
 * kho_domain_define:
 * @xml: a <domain>
 * @options: NULL for none
 * @unknown: (out) (optional): what of @xml was kept without being understood, one phrase each; NULL for none
 *
 * Makes or replaces a definition, at once or not at all. A running machine goes on as it is. A damaged
 * definition of that name is replaced whatever uuid it had.
 *
 * Returns: NULL with KHO_ERROR_INVALID (line and column for malformed XML; a forbidden name), _EXISTS (the
 * uuid belongs to another name, or the name to another uuid), _NO_SPACE, _DENIED, _IO.
 */
KHO_PUBLIC KhoDomain *
kho_domain_define(KhoHost *host, const char *xml, gsize len, const KhoDomainDefineOptions *options,
                  GPtrArray **unknown, GError **error);

typedef enum {
    KHO_UNDEFINE_SNAPSHOTS_METADATA = 1 << 0, /* and what is known of its snapshots; their images stay */
    KHO_UNDEFINE_MANAGED_SAVE = 1 << 1,       /* and its managed save (kho/save.h) */
} KhoUndefineFlags;

/* Removes the definition and the autostart mark, never an image. A running machine goes on, and is gone when
 * it ends. KHO_ERROR_INVALID where it has what only a flag may remove. */
KHO_PUBLIC gboolean kho_domain_undefine(KhoDomain *domain, KhoUndefineFlags flags, GError **error);

KHO_PUBLIC gboolean kho_domain_set_autostart(KhoDomain *domain, gboolean on, GError **error);

typedef enum {
    KHO_START_PAUSED = 1 << 0,     /* the guest is not let go */
    KHO_START_FORCE_BOOT = 1 << 1, /* a managed save (kho/save.h) is thrown away */
} KhoStartFlags;

/* Starts a machine that is shut off, or lets it go on from its managed save, and returns once its guest runs
 * (or is ready to). KHO_ERROR_BUSY names who holds an image; KHO_ERROR_NOT_FOUND an image, kernel or initrd
 * that is missing; with a managed save also what kho_host_restore says of a file. */
KHO_PUBLIC gboolean kho_domain_start(KhoDomain *domain, KhoStartFlags flags, const KhoJob *job,
                                     GError **error);

/* Each of these is KHO_ERROR_INVALID in a state where it makes no sense, and KHO_ERROR_TIMEOUT where QEMU
 * does not answer. shutdown and reboot ask the guest by ACPI and do not wait for it. */
KHO_PUBLIC gboolean kho_domain_shutdown(KhoDomain *domain, GError **error);
KHO_PUBLIC gboolean kho_domain_reboot(KhoDomain *domain, GError **error);
KHO_PUBLIC gboolean kho_domain_reset(KhoDomain *domain, GError **error);
KHO_PUBLIC gboolean kho_domain_suspend(KhoDomain *domain, GError **error);
KHO_PUBLIC gboolean kho_domain_resume(KhoDomain *domain, GError **error);
/* Ends QEMU, whatever it does, and returns when it has ended. With @graceful it is not killed: KHO_ERROR_BUSY
 * where it does not end by itself. */
KHO_PUBLIC gboolean kho_domain_destroy(KhoDomain *domain, gboolean graceful, GError **error);

/* A change of a machine that a dead process had left half done. */
typedef struct KhoRecovery {
    char *name;    /* the machine's; its uuid where an entry is damaged and nothing has that uuid */
    char *outcome; /* "finished snapshot-create of 's1'", "took back ..."; NULL where it failed */
    GError *why;   /* why it failed, or NULL; KHO_ERROR_BUSY where the change is still being driven */
} KhoRecovery;

KHO_PUBLIC void kho_recovery_free(KhoRecovery *recovery);

/* Finishes or takes back what is half done: on the machine that has @which as its name or uuid, or with NULL
 * on all. KhoRecovery *, owned: empty where nothing was to be done. */
KHO_PUBLIC GPtrArray *kho_host_recover(KhoHost *host, const char *which, GError **error);

typedef struct KhoDomainDisk {
    char *type;   /* "file" */
    char *device; /* "disk", "cdrom" */
    char *target; /* "vda" */
    char *source; /* NULL: an empty drive */
    char *format; /* NULL where it is not stated */
    gboolean read_only;
} KhoDomainDisk;

/* KhoDomainDisk *, owned by the array, in the order of the XML. */
KHO_PUBLIC GPtrArray *kho_domain_disks(KhoDomain *domain, gboolean inactive, GError **error);

/* What a change of a machine's devices is to change. None of them: the machine that runs, or the definition
 * where it does not. */
typedef enum {
    KHO_AFFECT_LIVE = 1 << 0,   /* the machine that runs; KHO_ERROR_INVALID where it does not */
    KHO_AFFECT_CONFIG = 1 << 1, /* its definition: from the next start on */
} KhoAffect;

/**
 * kho_domain_attach_disk:
 * @disk_xml: a <disk>
 *
 * Plugs a disk in, everywhere it is asked for or nowhere. It is there when this returns; the guest sees it
 * when its operating system has looked.
 *
 * Returns: FALSE with KHO_ERROR_EXISTS (the target is taken), _INVALID, _NOT_FOUND (the file), _BUSY (it is
 * in use, by whom), _UNSUPPORTED (what QEMU cannot plug), _CANCELLED, ...
 */
KHO_PUBLIC gboolean kho_domain_attach_disk(KhoDomain *domain, const char *disk_xml, KhoAffect affect,
                                           const KhoJob *job, GError **error);

/* Takes a disk out, everywhere it is asked for or nowhere; @which is its target or its file. The guest's
 * operating system must let go of it: KHO_ERROR_TIMEOUT where it does not within 5 s. */
KHO_PUBLIC gboolean kho_domain_detach_disk(KhoDomain *domain, const char *which, KhoAffect affect,
                                           const KhoJob *job, GError **error);

/* The pty of a console: @device is an alias ("serial0"), or NULL for the first. KHO_ERROR_NOT_FOUND when it
 * has none. */
KHO_PUBLIC char *kho_domain_console_path(KhoDomain *domain, const char *device, GError **error);

/* One console has one person at a time: a claim is held until it is released. */
typedef struct KhoConsoleClaim KhoConsoleClaim;

/* NULL with KHO_ERROR_BUSY, naming who holds that console. */
KHO_PUBLIC KhoConsoleClaim *kho_domain_console_claim(KhoDomain *domain, const char *device, GError **error);
KHO_PUBLIC void kho_console_release(KhoConsoleClaim *claim);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KhoConsoleClaim, kho_console_release)

#endif
