#include "foreign/cage.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/pipe.h"
#include "base/sock.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define CAGE_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define CAGE_ARCH AUDIT_ARCH_AARCH64
#else
#error "which numbers do system calls have here?"
#endif

/* QEMU takes 0.4 GiB of addresses for itself, and tables of the image with up to 64 MiB each. */
#define MEMORY_MAX ((rlim_t) 2 << 30)
#define FILES_MAX  256
#define CAPS_MAX   64

/* Told to the broker. */
static const int opens[] = {
#ifdef SYS_open
    SYS_open,
    SYS_creat,
#endif
    SYS_openat,
    SYS_openat2,
};

/* Refused with EPERM: what reaches other processes, the network, names, the system, or goes around the
 * broker. A thread's own signals, threads, and limits that are only asked for have rules of their own. */
static const int refused[] = {
#ifdef SYS_fork
    SYS_fork,
    SYS_vfork,
    SYS_unlink,
    SYS_rename,
    SYS_link,
    SYS_symlink,
    SYS_mkdir,
    SYS_rmdir,
    SYS_mknod,
    SYS_chmod,
    SYS_chown,
    SYS_lchown,
    SYS_utime,
    SYS_utimes,
    SYS_futimesat,
    SYS_iopl,
    SYS_ioperm,
    SYS_modify_ldt,
#endif
    SYS_ptrace,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_process_madvise,
    SYS_pidfd_open,
    SYS_pidfd_getfd,
    SYS_pidfd_send_signal,
    SYS_kill,
    SYS_tkill,
    SYS_rt_sigqueueinfo,
    SYS_rt_tgsigqueueinfo,
    SYS_kcmp,
    SYS_move_pages,
    SYS_migrate_pages,
    SYS_setpriority,
    SYS_ioprio_set,
    SYS_mount,
    SYS_umount2,
    SYS_pivot_root,
    SYS_chroot,
    SYS_unshare,
    SYS_setns,
    SYS_fsopen,
    SYS_fsmount,
    SYS_fspick,
    SYS_open_tree,
    SYS_move_mount,
    SYS_mount_setattr,
    SYS_bpf,
    SYS_perf_event_open,
    SYS_userfaultfd,
    SYS_keyctl,
    SYS_add_key,
    SYS_request_key,
    SYS_init_module,
    SYS_finit_module,
    SYS_delete_module,
    SYS_kexec_load,
    SYS_kexec_file_load,
    SYS_reboot,
    SYS_swapon,
    SYS_swapoff,
    SYS_acct,
    SYS_quotactl,
    SYS_settimeofday,
    SYS_clock_settime,
    SYS_adjtimex,
    SYS_clock_adjtime,
    SYS_sethostname,
    SYS_setdomainname,
    SYS_syslog,
    SYS_vhangup,
    SYS_io_uring_setup,
    SYS_io_uring_enter,
    SYS_io_uring_register,
    SYS_open_by_handle_at,
    SYS_name_to_handle_at,
    SYS_fanotify_init,
    SYS_socket,
    SYS_connect,
    SYS_bind,
    SYS_unlinkat,
    SYS_renameat,
    SYS_renameat2,
    SYS_linkat,
    SYS_symlinkat,
    SYS_mkdirat,
    SYS_mknodat,
    SYS_fchmod,
    SYS_fchmodat,
    SYS_fchown,
    SYS_fchownat,
    SYS_truncate,
    SYS_utimensat,
    SYS_setxattr,
    SYS_lsetxattr,
    SYS_fsetxattr,
    SYS_removexattr,
    SYS_lremovexattr,
    SYS_fremovexattr,
    SYS_setuid,
    SYS_setgid,
    SYS_setreuid,
    SYS_setregid,
    SYS_setresuid,
    SYS_setresgid,
    SYS_setgroups,
    SYS_setfsuid,
    SYS_setfsgid,
    SYS_capset,
    SYS_personality,
};

#define NAMESPACES                                                                                           \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID              \
     | CLONE_NEWNET)

#define LOAD(member) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, member))
/* The low half of an argument: processors are little endian here. */
#define LOAD_ARGUMENT(n) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[n]))
/* Goes on where the value is equal (has one of the bits), past @n instructions where not. */
#define UNLESS_EQUAL(value, n) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), 0, (n))
#define UNLESS_BITS(bits, n)   BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, (bits), 0, (n))
#define RETURN(what)           BPF_STMT(BPF_RET | BPF_K, (what))
#define REFUSE                 RETURN(SECCOMP_RET_ERRNO | EPERM)
#define ALLOW                  RETURN(SECCOMP_RET_ALLOW)

#define PROGRAM_MAX (2 * (G_N_ELEMENTS(opens) + G_N_ELEMENTS(refused)) + 32)

typedef struct {
    struct sock_filter lines[PROGRAM_MAX];
    gushort n;
} Program;

static void
add(Program *program, const struct sock_filter *lines, gsize n)
{
    for (gsize i = 0; i < n; i++)
        program->lines[program->n++] = lines[i];
}

/* In the child, on its stack: nothing is allocated after the fork. */
static void
assemble(Program *program)
{
    const struct sock_filter head[] = {
        LOAD(arch), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, CAGE_ARCH, 1, 0),  RETURN(SECCOMP_RET_KILL_PROCESS),
        LOAD(nr),   BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1), /* x86 has other numbers there */
        REFUSE,
    };
    /* Each rule ends, so that the next finds the call's number loaded. */
    const struct sock_filter by_argument[] = {
        UNLESS_EQUAL(SYS_tgkill, 4), /* a signal to oneself, as abort() sends it */
        LOAD_ARGUMENT(0),
        UNLESS_EQUAL((guint32) getpid(), 1),
        ALLOW,
        REFUSE,
        UNLESS_EQUAL(SYS_prlimit64, 4), /* one's own */
        LOAD_ARGUMENT(0),
        UNLESS_EQUAL(0, 1),
        ALLOW,
        REFUSE,
        UNLESS_EQUAL(SYS_clone, 6), /* a thread in the same namespaces */
        LOAD_ARGUMENT(0),
        UNLESS_BITS(NAMESPACES, 1),
        REFUSE,
        UNLESS_BITS(CLONE_THREAD, 1),
        ALLOW,
        REFUSE,
        UNLESS_EQUAL(SYS_clone3, 1), /* its flags cannot be seen: libc then takes clone */
        RETURN(SECCOMP_RET_ERRNO | ENOSYS),
    };
    const struct sock_filter tail[] = { ALLOW };

    program->n = 0;
    add(program, head, G_N_ELEMENTS(head));
    for (gsize i = 0; i < G_N_ELEMENTS(opens); i++) {
        const struct sock_filter rule[] = { UNLESS_EQUAL((guint32) opens[i], 1),
                                            RETURN(SECCOMP_RET_USER_NOTIF) };
        add(program, rule, G_N_ELEMENTS(rule));
    }
    add(program, by_argument, G_N_ELEMENTS(by_argument));
    for (gsize i = 0; i < G_N_ELEMENTS(refused); i++) {
        const struct sock_filter rule[] = { UNLESS_EQUAL((guint32) refused[i], 1), REFUSE };
        add(program, rule, G_N_ELEMENTS(rule));
    }
    add(program, tail, G_N_ELEMENTS(tail));
}

gboolean
cage_init(Cage *cage, GError **error)
{
    cage->inside = cage->outside = -1;
    return sock_pair(&cage->inside, &cage->outside, error);
}

static gboolean
limit(void)
{
    const struct rlimit memory = { MEMORY_MAX, MEMORY_MAX }, files = { FILES_MAX, FILES_MAX },
                        core = { 0, 0 };

    return setrlimit(RLIMIT_AS, &memory) == 0 && setrlimit(RLIMIT_NOFILE, &files) == 0
           && setrlimit(RLIMIT_CORE, &core) == 0;
}

/* Root's program loses what makes it root: it keeps the number alone, and opens nothing by itself. */
static void
drop_rights(void)
{
    for (int cap = 0; cap < CAPS_MAX; cap++)
        prctl(PR_CAPBSET_DROP, cap, 0, 0, 0); /* fails for others than root, who have none */
}

gboolean
cage_enter(gpointer data)
{
    const Cage *cage = data;
    Program program;

    assemble(&program);
    const struct sock_fprog filter = { .len = program.n, .filter = program.lines };
    drop_rights();
    if (!limit() || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return FALSE;
    long listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &filter);
    return listener >= 0 && sock_send_some_with(cage->inside, "", 1, (int) listener) == 1;
}

int
cage_take_listener(Cage *cage, GError **error)
{
    /* It was sent before the program took its place. */
    return sock_receive_fd(cage->outside, deadline_in(10000), "the confined program", error);
}

void
cage_clear(Cage *cage)
{
    fd_clear(&cage->inside);
    fd_clear(&cage->outside);
}
