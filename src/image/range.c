#include "image/range.h"

void
range_lock_init(RangeLock *lock)
{
    g_mutex_init(&lock->mutex);
    g_cond_init(&lock->freed);
    lock->held = NULL;
}

void
range_lock_clear(RangeLock *lock)
{
    g_assert(lock->held == NULL);
    g_mutex_clear(&lock->mutex);
    g_cond_clear(&lock->freed);
}

static gboolean
conflicts_locked(const RangeLock *lock, const RangeHold *hold)
{
    for (const RangeHold *h = lock->held; h; h = h->next)
        if (h->start < hold->end && hold->start < h->end && !(h->shared && hold->shared))
            return TRUE;
    return FALSE;
}

void
range_lock_take(RangeLock *lock, RangeHold *hold, guint64 start, guint64 end, gboolean shared)
{
    *hold = (RangeHold){ .start = start, .end = end, .shared = shared };
    g_mutex_lock(&lock->mutex);
    while (conflicts_locked(lock, hold))
        g_cond_wait(&lock->freed, &lock->mutex);
    hold->next = lock->held;
    lock->held = hold;
    g_mutex_unlock(&lock->mutex);
}

void
range_lock_drop(RangeLock *lock, RangeHold *hold)
{
    g_mutex_lock(&lock->mutex);
    for (RangeHold **at = &lock->held; *at; at = &(*at)->next)
        if (*at == hold) {
            *at = hold->next;
            break;
        }
    g_cond_broadcast(&lock->freed);
    g_mutex_unlock(&lock->mutex);
}
