/* Reading: whole batches from the partitions' own queues. */
#include "module.h"

#include <stdlib.h>
#include <string.h>

#define TOPICS_MAX 64
#define MESSAGES_MAX 1000000

typedef struct {
    PyObject_HEAD
    Link *link;
} Reader;

static PyObject *reader_new(PyTypeObject *type, PyObject *arguments, PyObject *names) {
    (void)arguments, (void)names;
    Reader *self = (Reader *)heap_new(type);
    if (self && !(self->link = link_take_newest())) {
        Py_CLEAR(self);
        PyErr_SetString(PyExc_RuntimeError, "no client was made with this library as a plugin");
    }
    return (PyObject *)self;
}

static void reader_dealloc(PyObject *self) {
    link_release(((Reader *)self)->link);
    heap_free(self);
}

static PyObject *closed(void) {
    PyErr_SetString(PyExc_RuntimeError, "the client is closed");
    return NULL;
}

static PyObject *reader_forward(PyObject *object, PyObject *arguments) {
    Link *link = ((Reader *)object)->link;
    const char *topic;
    int partition;
    if (!PyArg_ParseTuple(arguments, "si", &topic, &partition))
        return NULL;
    rd_kafka_t *client = link_lock(link);
    if (!client)
        return closed();
    rd_kafka_queue_t *ours = link_queue(link);
    rd_kafka_queue_t *theirs = ours ? kafka.queue_get_partition(client, topic, partition) : NULL;
    if (theirs) {
        kafka.queue_forward(theirs, ours);
        kafka.queue_destroy(theirs);
    }
    link_unlock(link);
    if (!theirs) {
        PyErr_SetString(PyExc_RuntimeError, "could not take over this partition's queue");
        return NULL;
    }
    return Py_NewRef(Py_None);
}

typedef struct {
    Arena *arenas[TOPICS_MAX];
    int topics;
} Sorted;

static Arena *arena_for(Sorted *sorted, const rd_kafka_topic_t *topic) {
    for (int n = 0; n < sorted->topics; n++)
        if (sorted->arenas[n]->topic_handle == topic)
            return sorted->arenas[n];
    const char *name = kafka.topic_name(topic);
    for (int n = 0; n < sorted->topics; n++) /* one topic may have several handles */
        if (!strcmp(sorted->arenas[n]->topic, name))
            return sorted->arenas[n];
    if (sorted->topics == TOPICS_MAX)
        return NULL;
    Arena *arena = arena_take(name);
    if (arena) {
        arena->topic_handle = topic;
        sorted->arenas[sorted->topics++] = arena;
    }
    return arena;
}

/* Copy and free all messages; those that are errors stay, at the front. Without the lock. */
static bool sort_out(rd_kafka_message_t **messages, size_t count, Sorted *sorted, size_t *errors) {
    bool fine = true;
    *errors = 0;
    for (size_t n = 0; n < count; n++) {
        rd_kafka_message_t *message = messages[n];
        if (message->err) {
            messages[(*errors)++] = message;
            continue;
        }
        Arena *arena = fine ? arena_for(sorted, message->rkt) : NULL;
        fine = arena && arena_add(arena, message);
        kafka.message_destroy(message);
    }
    return fine;
}

static PyObject *error_list(rd_kafka_message_t **messages, size_t count) {
    PyObject *list = PyList_New((Py_ssize_t)count);
    for (size_t n = 0; n < count; n++) {
        const rd_kafka_message_t *message = messages[n];
        const char *topic = message->rkt ? kafka.topic_name(message->rkt) : "";
        PyObject *error = !list ? NULL
                                : Py_BuildValue("siLi", topic, message->partition, (long long)message->offset,
                                                message->err);
        if (list && (!error || PyList_SetItem(list, (Py_ssize_t)n, error)))
            Py_CLEAR(list);
        kafka.message_destroy(messages[n]);
    }
    return list;
}

PyDoc_STRVAR(fetch_doc, "fetch(messages_max, timeout_ms) -> (batches, errors)\n\n"
                        "One batch for each topic; errors are (topic, partition, offset, code).");

static PyObject *reader_fetch(PyObject *object, PyObject *arguments) {
    Link *link = ((Reader *)object)->link;
    Py_ssize_t most;
    int timeout_ms;
    if (!PyArg_ParseTuple(arguments, "ni", &most, &timeout_ms))
        return NULL;
    if (most < 1 || most > MESSAGES_MAX) {
        PyErr_SetString(PyExc_ValueError, "messages_max is out of bounds");
        return NULL;
    }
    rd_kafka_message_t **messages = malloc((size_t)most * sizeof *messages);
    if (!messages)
        return PyErr_NoMemory();
    Sorted sorted = {.topics = 0};
    size_t errors = 0;
    bool open, fine = true;
    Py_BEGIN_ALLOW_THREADS
    open = link_lock(link) != NULL;
    if (open) {
        rd_kafka_queue_t *queue = link_queue(link);
        ssize_t count = queue ? kafka.consume_batch_queue(queue, timeout_ms, messages, (size_t)most) : 0;
        fine = sort_out(messages, count > 0 ? (size_t)count : 0, &sorted, &errors);
        link_unlock(link);
    }
    Py_END_ALLOW_THREADS
    /* From here on nothing is left to librdkafka but the errors, which `error_list` frees. */
    PyObject *problems = error_list(messages, errors), *batches = PyList_New(sorted.topics);
    free(messages);
    for (int n = 0; n < sorted.topics; n++) {
        PyObject *batch = batch_of(sorted.arenas[n]);
        if (!batches)
            Py_XDECREF(batch);
        else if (!batch || PyList_SetItem(batches, n, batch))
            Py_CLEAR(batches);
    }
    if (open && fine && problems && batches)
        return Py_BuildValue("(NN)", batches, problems);
    Py_XDECREF(batches);
    Py_XDECREF(problems);
    if (PyErr_Occurred())
        return NULL;
    return open ? PyErr_NoMemory() : closed();
}

static PyObject *reader_close(PyObject *object, PyObject *ignored) {
    Link *link = ((Reader *)object)->link;
    (void)ignored;
    if (link_lock(link)) {
        link_close_queue(link);
        link_unlock(link);
    }
    return Py_NewRef(Py_None);
}

static PyMethodDef reader_methods[] = {
    {"forward", reader_forward, METH_VARARGS, "forward(topic, partition): read it here; before it is assigned."},
    {"fetch", reader_fetch, METH_VARARGS, fetch_doc},
    {"close", reader_close, METH_NOARGS, "Read no more; before the consumer is closed."},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot reader_slots[] = {
    {Py_tp_doc, "Reads what the consumer that this thread made last was assigned."},
    {Py_tp_new, reader_new},
    {Py_tp_dealloc, reader_dealloc},
    {Py_tp_methods, reader_methods},
    {0, NULL},
};
PyType_Spec reader_spec = {"connectors.native._native.Reader", sizeof(Reader), 0, Py_TPFLAGS_DEFAULT, reader_slots};
