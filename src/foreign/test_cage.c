#include "base/fd.h"
#include "base/pipe.h"
#include "foreign/broker.h"
#include "foreign/cage.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <kho/error.h>
#include <sys/wait.h>

/* A folder with an image, a file beside it, and a caged program that reads. */
typedef struct {
    char *folder, *image, *beside;
    Cage cage;
    int fd;
    gboolean open_gate;
    Broker *broker;
} Place;

static gboolean
admit(const char *path, gpointer data, GError **error)
{
    const Place *place = data;

    if (place->open_gate && g_str_equal(path, place->beside))
        return TRUE;
    g_set_error(error, KHO_ERROR, KHO_ERROR_DENIED, "not %s", path);
    return FALSE;
}

static gpointer
serve(gpointer data)
{
    Place *place = data;
    const BrokerSpec spec = {
        .path = place->image, .fd = place->fd, .writable = TRUE, .admit = admit, .data = place
    };
    int listener = cage_take_listener(&place->cage, NULL);

    g_assert_cmpint(listener, >=, 0);
    place->broker = broker_start(listener, &spec, NULL);
    g_assert_nonnull(place->broker);
    return NULL;
}

static void
set_up(Place *place, gboolean open_gate)
{
    *place = (Place){ .open_gate = open_gate };
    place->folder = g_dir_make_tmp("kho-cage-XXXXXX", NULL);
    place->image = g_build_filename(place->folder, "image", NULL);
    place->beside = g_build_filename(place->folder, "beside", NULL);
    g_assert_true(g_file_set_contents(place->image, "image", -1, NULL));
    g_assert_true(g_file_set_contents(place->beside, "beside", -1, NULL));
    place->fd = fd_open(place->image, O_RDWR, 0, NULL);
    g_assert_true(cage_init(&place->cage, NULL));
}

static void
tear_down(Place *place)
{
    g_clear_pointer(&place->broker, broker_free);
    cage_clear(&place->cage);
    fd_clear(&place->fd);
    g_unlink(place->image);
    g_unlink(place->beside);
    g_assert_cmpint(g_rmdir(place->folder), ==, 0);
    g_free(place->image);
    g_free(place->beside);
    g_free(place->folder);
}

/* Runs a program of the shell's in the cage: its exit status, and its output in *out. */
static int
run_caged(Place *place, const char *script, char **out)
{
    const char *argv[] = { "/bin/sh", "-c", script, "sh", place->image, place->beside, NULL };
    const SpawnSpec spec = { .argv = argv, .confine = cage_enter, .confine_data = &place->cage };
    GThread *server = g_thread_new("serve", serve, place);
    SpawnResult result;

    g_assert_true(spawn_run(&spec, deadline_in(30000), &result, NULL));
    g_thread_join(server);
    *out = g_steal_pointer(&result.out);
    spawn_result_clear(&result);
    return WIFEXITED(result.status) ? WEXITSTATUS(result.status) : -1;
}

static const struct {
    const char *name, *script, *out;
    gboolean open_gate, works;
} rows[] = {
    { "the image is read", "exec cat \"$1\"", "image", FALSE, TRUE },
    { "the image is written",
      "exec /usr/bin/python3 -S -c 'import os, sys; fd = os.open(sys.argv[1], os.O_RDWR); os.write(fd, "
      "b\"new\"); "
      "print(os.pread(fd, 9, 0))' \"$1\"",
      "b'newge'\n", FALSE, TRUE },
    { "beside, no gate", "exec cat \"$2\"", "", FALSE, FALSE },
    { "beside, admitted", "exec cat \"$2\"", "beside", TRUE, TRUE },
    { "another file", "exec cat /etc/hostname /etc/passwd", "", TRUE, FALSE },
    { "processes", "exec cat /proc/self/maps", "", TRUE, FALSE },
    { "through a link", "exec cat \"$1/../beside\"", "", FALSE, FALSE },
    { "a new file", "echo >\"$1.new\"", "", TRUE, FALSE },
    { "a name removed", "exec rm -f \"$2\"", "", TRUE, FALSE },
    { "a name changed", "exec mv \"$2\" \"$2.new\"", "", TRUE, FALSE },
    { "rights changed", "exec chmod 777 \"$1\"", "", TRUE, FALSE },
    { "a signal to another", "kill -0 1", "", TRUE, FALSE },
    { "a process", "(echo x); echo y", "", TRUE, FALSE },
    { "the network", "exec /usr/bin/python3 -S -c 'import socket; print(1, flush=True); socket.socket()'",
      "1\n", TRUE, FALSE },
    { "namespaces", "exec unshare -U true", "", TRUE, FALSE },
};

static void
test_row(gconstpointer data)
{
    gsize i = GPOINTER_TO_SIZE(data);
    g_autofree char *out = NULL;
    Place place;

    set_up(&place, rows[i].open_gate);
    int status = run_caged(&place, rows[i].script, &out);
    if (rows[i].works)
        g_assert_cmpint(status, ==, 0);
    else
        g_assert_cmpint(status, !=, 0);
    g_assert_cmpstr(out, ==, rows[i].out);
    tear_down(&place);
}

/* What was refused is told; after the seal only what was admitted before. */
static void
test_seal(void)
{
    g_autofree char *out = NULL;
    Place place;

    set_up(&place, FALSE);
    g_assert_cmpint(run_caged(&place, "exec cat \"$2\"", &out), !=, 0);
    g_autoptr(GError) refusal = broker_take_refusal(place.broker);
    g_assert_error(refusal, KHO_ERROR, KHO_ERROR_DENIED);
    g_assert_nonnull(strstr(refusal->message, place.beside));
    g_assert_null(broker_take_refusal(place.broker));
    tear_down(&place);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *name = g_strdup_printf("/cage/%s", rows[i].name);
        g_test_add_data_func(name, GSIZE_TO_POINTER(i), test_row);
    }
    g_test_add_func("/cage/refusal", test_seal);
    return g_test_run();
}
