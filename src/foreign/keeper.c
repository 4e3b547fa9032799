#include "foreign/keeper.h"

#include "base/error.h"

typedef struct {
    SpawnSpec spec;
    SpawnChild *child;
    GError *error;
    gboolean done, started; /* under mutex */
} Order;

static GMutex mutex;
static GCond changed;
static GAsyncQueue *orders;

static gpointer
work(gpointer data)
{
    for (;;) {
        Order *order = g_async_queue_pop(orders);
        gboolean started = spawn_start(&order->spec, order->child, &order->error);

        g_mutex_lock(&mutex);
        order->started = started;
        order->done = TRUE;
        g_cond_broadcast(&changed);
        g_mutex_unlock(&mutex);
    }
    return NULL;
}

static gpointer
begin(gpointer data)
{
    orders = g_async_queue_new();
    return g_thread_try_new("keeper", work, NULL, NULL);
}

gboolean
keeper_spawn(const SpawnSpec *spec, SpawnChild *child, GError **error)
{
    static GOnce once = G_ONCE_INIT;
    Order order = { .spec = *spec, .child = child };

    if (!g_once(&once, begin, NULL))
        return fail(error, KHO_ERROR_BUSY, "cannot start %s: no thread is to be had", spec->argv[0]);
    order.spec.dies_with_caller = TRUE;
    g_async_queue_push(orders, &order);
    g_mutex_lock(&mutex);
    while (!order.done)
        g_cond_wait(&changed, &mutex);
    g_mutex_unlock(&mutex);
    if (order.error)
        g_propagate_error(error, order.error);
    return order.started;
}
