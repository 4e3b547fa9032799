#include "supervisor/link.h"

#include "supervisor/broker.h"
#include "supervisor/silence.h"
#include "supervisor/supervisor.h"

static void
on_ready(gpointer data)
{
    hello_begin(data);
}

/* The state first: a client that sees the event and asks for the status must find it. */
static void
on_event(const json_t *message, gpointer data)
{
    Supervisor *s = data;

    guest_event(s, json_string_or(message, "event", ""), json_object_get(message, "data"));
    if (s->broker)
        broker_event(s->broker, message);
}

static void
on_note(const char *text, gpointer data)
{
    vm_log(((Supervisor *) data)->log, "%s", text);
}

static void
on_beat(gpointer data)
{
    silence_note(data);
}

const MonitorHooks link_hooks = { .ready = on_ready, .event = on_event, .note = on_note, .beat = on_beat };
