#include "base/seccomp.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#else
#error "which numbers do system calls have here?"
#endif

static const int system_calls[] = {
#ifdef SYS_fork
    SYS_fork,
    SYS_vfork,
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

static const int name_calls[] = {
#ifdef SYS_unlink
    SYS_unlink,    SYS_rename,      SYS_link,         SYS_symlink,      SYS_mkdir,
    SYS_rmdir,     SYS_mknod,       SYS_chmod,        SYS_chown,        SYS_lchown,
    SYS_utime,     SYS_utimes,      SYS_futimesat,
#endif
    SYS_unlinkat,  SYS_renameat,    SYS_renameat2,    SYS_linkat,       SYS_symlinkat,
    SYS_mkdirat,   SYS_mknodat,     SYS_fchmod,       SYS_fchmodat,     SYS_fchown,
    SYS_fchownat,  SYS_truncate,    SYS_utimensat,    SYS_setxattr,     SYS_lsetxattr,
    SYS_fsetxattr, SYS_removexattr, SYS_lremovexattr, SYS_fremovexattr,
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

static void
add(SeccompFilter *filter, const struct sock_filter *lines, gsize n)
{
    g_assert(filter->n + n <= SECCOMP_LINES_MAX);
    for (gsize i = 0; i < n; i++)
        filter->lines[filter->n++] = lines[i];
}

void
seccomp_begin(SeccompFilter *filter)
{
    const struct sock_filter head[] = {
        LOAD(arch), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0),       RETURN(SECCOMP_RET_KILL_PROCESS),
        LOAD(nr),   BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1), /* x86 has other numbers there */
        REFUSE,
    };

    filter->n = 0;
    add(filter, head, G_N_ELEMENTS(head));
}

void
seccomp_act(SeccompFilter *filter, const int *calls, gsize n, guint32 action)
{
    for (gsize i = 0; i < n; i++) {
        const struct sock_filter rule[] = { UNLESS_EQUAL((guint32) calls[i], 1), RETURN(action) };
        add(filter, rule, G_N_ELEMENTS(rule));
    }
}

void
seccomp_keep_in(SeccompFilter *filter)
{
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

    add(filter, by_argument, G_N_ELEMENTS(by_argument));
    seccomp_act(filter, system_calls, G_N_ELEMENTS(system_calls), SECCOMP_RET_ERRNO | EPERM);
}

void
seccomp_keep_names(SeccompFilter *filter)
{
    seccomp_act(filter, name_calls, G_N_ELEMENTS(name_calls), SECCOMP_RET_ERRNO | EPERM);
}

int
seccomp_end(SeccompFilter *filter, guint flags)
{
    const struct sock_filter tail[] = { ALLOW };

    add(filter, tail, G_N_ELEMENTS(tail));
    const struct sock_fprog program = { .len = filter->n, .filter = filter->lines };
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return -1;
    return (int) syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}
