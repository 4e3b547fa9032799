#include "foreign/cage.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/pipe.h"
#include "base/seccomp.h"
#include "base/sock.h"

#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

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
    SeccompFilter filter; /* nothing is allocated after the fork */

    seccomp_begin(&filter);
    seccomp_act(&filter, opens, G_N_ELEMENTS(opens), SECCOMP_RET_USER_NOTIF);
    seccomp_keep_in(&filter);
    seccomp_keep_names(&filter);
    drop_rights();
    if (!limit())
        return FALSE;
    int listener = seccomp_end(&filter, SECCOMP_FILTER_FLAG_NEW_LISTENER);
    return listener >= 0 && sock_send_some_with(cage->inside, "", 1, listener) == 1;
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
