/* Writing: many records at a call, their headers handed over and not turned into objects again.
 *
 * The producer is the Python client's. Its delivery callback knows our records by their missing
 * mark and passes them over, so an interceptor keeps the first failure; nobody may forget to ask. */
#include "module.h"

#include <string.h>

enum { TOPICS_MAX = 64 };

typedef struct {
    PyObject_HEAD
    Link *link;
} Writer;

typedef struct {
    const void *key, *value; /* NULL: null */
    size_t key_size, value_size;
} Content;

static PyObject *writer_new(PyTypeObject *type, PyObject *arguments, PyObject *names) {
    (void)arguments, (void)names;
    Writer *self = (Writer *)heap_new(type);
    if (self && !(self->link = link_take_newest())) {
        Py_CLEAR(self);
        PyErr_SetString(PyExc_RuntimeError, "no client was made with this library as a plugin");
    }
    return (PyObject *)self;
}

static void writer_dealloc(PyObject *self) {
    link_release(((Writer *)self)->link);
    heap_free(self);
}

/* Hand one record over; its headers are the client's from then on, or destroyed. */
static rd_kafka_resp_err_t hand_over(rd_kafka_t *client, rd_kafka_topic_t *topic, const Content *content,
                                     rd_kafka_headers_t *headers) {
    rd_kafka_vu_t parts[] = {
        {.vtype = RK_V_RKT, .u.rkt = topic},
        {.vtype = RK_V_VALUE, .u.mem = {(void *)(uintptr_t)content->value, content->value_size}},
        {.vtype = RK_V_KEY, .u.mem = {(void *)(uintptr_t)content->key, content->key_size}},
        {.vtype = RK_V_MSGFLAGS, .u.i = RK_MSG_F_COPY},
        {.vtype = RK_V_HEADERS, .u.headers = headers},
    };
    rd_kafka_error_t *error = kafka.produceva(client, parts, sizeof parts / sizeof *parts);
    if (!error)
        return RK_OK;
    rd_kafka_resp_err_t code = kafka.error_code(error);
    kafka.error_destroy(error);
    kafka.headers_destroy(headers);
    return code;
}

static bool content_of(PyObject *item, const void **at, size_t *size) {
    char *bytes = NULL;
    Py_ssize_t length = 0;
    if (item != Py_None && PyBytes_AsStringAndSize(item, &bytes, &length))
        return false;
    *at = bytes;
    *size = (size_t)length;
    return true;
}

static bool add_header(rd_kafka_headers_t *headers, const char *name, PyObject *value) {
    const void *at;
    size_t size;
    if (!content_of(value, &at, &size))
        return false;
    if (kafka.header_add(headers, name, -1, at, (ssize_t)size)) {
        PyErr_SetString(PyExc_ValueError, "a header that librdkafka refuses");
        return false;
    }
    return true;
}

/* Add the headers of a list of (str, bytes or None); false with an exception for what is none. */
static bool add_listed(rd_kafka_headers_t *headers, PyObject *list) {
    Py_ssize_t count = PySequence_Size(list);
    bool tuple = PyTuple_Check(list), fine = count >= 0;
    for (Py_ssize_t n = 0; fine && n < count; n++) {
        PyObject *pair = tuple ? PyTuple_GetItem(list, n) : PyList_GetItem(list, n);
        PyObject *name = pair ? PyTuple_GetItem(pair, 0) : NULL, *value = name ? PyTuple_GetItem(pair, 1) : NULL;
        const char *text = value ? PyUnicode_AsUTF8AndSize(name, NULL) : NULL;
        fine = text && add_header(headers, text, value);
    }
    return fine;
}

/* The headers of a record; NULL with an exception. */
static rd_kafka_headers_t *headers_of(PyObject *list) {
    Py_ssize_t count = PyList_Size(list);
    rd_kafka_headers_t *headers = count < 0 ? NULL : kafka.headers_new((size_t)count);
    if (headers && !add_listed(headers, list)) {
        kafka.headers_destroy(headers);
        headers = NULL;
    }
    return headers;
}

static rd_kafka_topic_t *topic_of(Link *link, PyObject *name) {
    const char *text = PyUnicode_AsUTF8AndSize(name, NULL);
    rd_kafka_topic_t *topic = text ? link_topic(link, text) : NULL;
    if (text && !topic)
        PyErr_SetString(PyExc_ValueError, "a topic name that librdkafka refuses");
    return topic;
}

/* Topics, borrowed from the link until it is unlocked; false with an exception. */
static bool topics_of(Link *link, PyObject *names, rd_kafka_topic_t **known) {
    Py_ssize_t count = PyList_Size(names);
    bool fine = true;
    for (Py_ssize_t n = 0; fine && n < 2 * count; n++) /* twice: the first round may make room */
        fine = (known[n % count] = topic_of(link, PyList_GetItem(names, n % count))) != NULL;
    return fine;
}

PyDoc_STRVAR(produce_doc, "produce(records, first) -> (next, code)\n\n"
                          "Hand over (topic, key, value, headers, …) from a place on; stops at the first that is\n"
                          "not taken, with its place and librdkafka's code, else 0.");

static PyObject *writer_produce(PyObject *object, PyObject *arguments) {
    Link *link = ((Writer *)object)->link;
    PyObject *records;
    Py_ssize_t place;
    if (!PyArg_ParseTuple(arguments, "O!n", &PyList_Type, &records, &place))
        return NULL;
    rd_kafka_t *client = link_lock(link);
    if (!client) {
        PyErr_SetString(PyExc_RuntimeError, "the client is closed");
        return NULL;
    }
    rd_kafka_resp_err_t code = RK_OK;
    Py_ssize_t count = PyList_Size(records);
    bool fine = place >= 0;
    if (!fine)
        PyErr_SetString(PyExc_ValueError, "a place before the first");
    for (; fine && place < count; place++) {
        PyObject *record = PyList_GetItem(records, place);
        Content content;
        PyObject *name = PyTuple_GetItem(record, 0), *key = PyTuple_GetItem(record, 1);
        PyObject *value = PyTuple_GetItem(record, 2), *list = PyTuple_GetItem(record, 3);
        rd_kafka_topic_t *topic = NULL;
        rd_kafka_headers_t *headers = NULL;
        fine = name && key && value && list && content_of(key, &content.key, &content.key_size) &&
               content_of(value, &content.value, &content.value_size) && (topic = topic_of(link, name)) &&
               (headers = headers_of(list));
        if (fine && (code = hand_over(client, topic, &content, headers)))
            break;
    }
    link_unlock(link);
    return fine ? Py_BuildValue("(ni)", place, code) : NULL;
}

/* --- by column -------------------------------------------------------------------------------- */

typedef struct {
    PyObject *topics, *labels, *columns, *rests, *keys, *values;
    const char *numbers; /* eight bytes each, aligned or not */
    Py_ssize_t size;
} Stamped;

static bool has_size(PyObject *list, Py_ssize_t size) {
    if (PyList_Check(list) && PyList_Size(list) == size)
        return true;
    if (!PyErr_Occurred())
        PyErr_SetString(PyExc_ValueError, "expected lists with a cell for each record");
    return false;
}

static bool are_columns(const Stamped *all) {
    bool fine = has_size(all->keys, all->size) && has_size(all->values, all->size);
    if (fine && PyList_Size(all->rests))
        fine = has_size(all->rests, all->size);
    Py_ssize_t count = PyList_Size(all->columns);
    for (Py_ssize_t n = 0; fine && n < count; n++) {
        PyObject *cells = PyTuple_GetItem(PyList_GetItem(all->columns, n), 1);
        fine = cells && has_size(cells, all->size);
    }
    return fine;
}

/* The label of a record: its headers, and the place of its topic; NULL with an exception. */
static PyObject *label_of(const Stamped *all, Py_ssize_t place, Py_ssize_t *topic) {
    int64_t number;
    memcpy(&number, all->numbers + place * (Py_ssize_t)sizeof number, sizeof number);
    if (number < 0 || number >= PyList_Size(all->labels)) {
        PyErr_SetString(PyExc_ValueError, "a record with a label that was not given");
        return NULL;
    }
    PyObject *label = PyList_GetItem(all->labels, (Py_ssize_t)number);
    PyObject *at = PyTuple_GetItem(label, 0), *list = at ? PyTuple_GetItem(label, 1) : NULL;
    *topic = list ? PyLong_AsSsize_t(at) : -1;
    if (list && !PyErr_Occurred() && (*topic < 0 || *topic >= PyList_Size(all->topics)))
        PyErr_SetString(PyExc_ValueError, "a label with a topic that was not given");
    return PyErr_Occurred() ? NULL : list;
}

static rd_kafka_headers_t *stamped_headers(const Stamped *all, Py_ssize_t place, PyObject *label) {
    Py_ssize_t count = PyList_Size(all->columns);
    rd_kafka_headers_t *headers = kafka.headers_new((size_t)count + 8);
    bool fine = headers && add_listed(headers, label);
    for (Py_ssize_t n = 0; fine && n < count; n++) {
        PyObject *column = PyList_GetItem(all->columns, n), *name = PyTuple_GetItem(column, 0);
        PyObject *cell = PyList_GetItem(PyTuple_GetItem(column, 1), place);
        const char *text = cell == Py_None ? NULL : PyUnicode_AsUTF8AndSize(name, NULL);
        fine = cell == Py_None || (text && add_header(headers, text, cell));
    }
    if (fine && PyList_Size(all->rests))
        fine = add_listed(headers, PyList_GetItem(all->rests, place));
    if (!fine && headers) {
        kafka.headers_destroy(headers);
        headers = NULL;
    }
    return headers;
}

PyDoc_STRVAR(stamp_doc, "stamp(topics, labels, numbers, columns, rests, keys, values, first) -> (next, code)\n\n"
                        "Hand over records from a place on; each has the headers of its label (place of its topic,\n"
                        "headers), of the columns (name, cells) where its cell is not None, and of its rest, if\n"
                        "there are rests. `numbers` are the labels' places, eight bytes each.");

static PyObject *writer_stamp(PyObject *object, PyObject *arguments) {
    Link *link = ((Writer *)object)->link;
    Stamped all;
    Py_ssize_t bytes, place;
    if (!PyArg_ParseTuple(arguments, "O!O!y#O!O!O!O!n", &PyList_Type, &all.topics, &PyList_Type, &all.labels, &all.numbers,
                          &bytes, &PyList_Type, &all.columns, &PyList_Type, &all.rests, &PyList_Type, &all.keys,
                          &PyList_Type, &all.values, &place))
        return NULL;
    all.size = bytes / (Py_ssize_t)sizeof(int64_t);
    Py_ssize_t topic_count = PyList_Size(all.topics);
    bool fine = are_columns(&all);
    if (fine && (place < 0 || topic_count > TOPICS_MAX)) {
        PyErr_SetString(PyExc_ValueError, "a place before the first, or more than 64 topics");
        fine = false;
    }
    rd_kafka_t *client = fine ? link_lock(link) : NULL;
    if (!client) {
        if (fine)
            PyErr_SetString(PyExc_RuntimeError, "the client is closed");
        return NULL;
    }
    rd_kafka_topic_t *known[TOPICS_MAX];
    fine = topics_of(link, all.topics, known);
    rd_kafka_resp_err_t code = RK_OK;
    for (; fine && place < all.size; place++) {
        Content content;
        Py_ssize_t topic;
        PyObject *label = label_of(&all, place, &topic);
        rd_kafka_headers_t *headers = NULL;
        fine = label && content_of(PyList_GetItem(all.keys, place), &content.key, &content.key_size) &&
               content_of(PyList_GetItem(all.values, place), &content.value, &content.value_size) &&
               (headers = stamped_headers(&all, place, label));
        if (fine && (code = hand_over(client, known[topic], &content, headers)))
            break;
    }
    link_unlock(link);
    if (!fine && !PyErr_Occurred())
        PyErr_NoMemory();
    return fine ? Py_BuildValue("(ni)", place, code) : NULL;
}

/* --- straight from a batch -------------------------------------------------------------------- */

/* A message's own headers, but for those that `others` names, and then these. */
static rd_kafka_headers_t *own_headers(const Arena *arena, const Row *row, PyObject *others) {
    rd_kafka_headers_t *headers = others ? headers_of(others) : kafka.headers_new((size_t)(row->header_count + 1));
    Py_ssize_t count = others ? PyList_Size(others) : 0;
    size_t at = row->headers;
    for (int n = 0; headers && n < row->header_count; n++) {
        HeaderView view;
        at = header_at(arena, at, &view);
        bool replaced = false;
        for (Py_ssize_t other = 0; other < count && !replaced; other++)
            replaced = !strcmp(view.name, PyUnicode_AsUTF8AndSize(PyTuple_GetItem(PyList_GetItem(others, other), 0), NULL));
        if (!replaced && kafka.header_add(headers, view.name, view.name_size, view.value, view.value ? view.value_size : 0)) {
            kafka.headers_destroy(headers);
            headers = NULL;
            PyErr_NoMemory();
        }
    }
    return headers;
}

PyDoc_STRVAR(forward_doc, "forward(batch, doors, topics, others, first) -> (next, code)\n\n"
                          "Hand messages over as they came, from a place on: `doors` is a byte for each, the place\n"
                          "of its topic in `topics` or 255 for none. `others` is None, or for each message a list of\n"
                          "headers that are put first, in place of those with the same names.");

static PyObject *writer_forward(PyObject *object, PyObject *arguments) {
    Link *link = ((Writer *)object)->link;
    PyObject *batch, *topics, *others;
    const unsigned char *doors;
    Py_ssize_t door_count, place;
    if (!PyArg_ParseTuple(arguments, "O!y#O!On", batch_type, &batch, &doors, &door_count, &PyList_Type, &topics, &others,
                          &place))
        return NULL;
    const Arena *arena = ((Batch *)batch)->arena;
    if (place < 0 || (size_t)door_count != arena->size ||
        (others != Py_None && PyList_Size(others) != (Py_ssize_t)arena->size)) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "expected a door, and other headers, for each message");
        return NULL;
    }
    rd_kafka_t *client = link_lock(link);
    if (!client) {
        PyErr_SetString(PyExc_RuntimeError, "the client is closed");
        return NULL;
    }
    rd_kafka_topic_t *known[TOPICS_MAX];
    Py_ssize_t topic_count = PyList_Size(topics);
    bool fine = topic_count <= TOPICS_MAX;
    if (!fine)
        PyErr_SetString(PyExc_ValueError, "expected at most 64 topics");
    fine = fine && topics_of(link, topics, known);
    rd_kafka_resp_err_t code = RK_OK;
    for (; fine && place < door_count; place++) {
        const Row *row = &arena->rows[place];
        if (doors[place] >= topic_count)
            continue;
        Content content = {
            row->key_size < 0 ? NULL : arena->bodies.at + row->key,
            row->value_size < 0 ? NULL : arena->bodies.at + row->value,
            row->key_size < 0 ? 0 : (size_t)row->key_size,
            row->value_size < 0 ? 0 : (size_t)row->value_size,
        };
        rd_kafka_headers_t *headers = own_headers(arena, row, others == Py_None ? NULL : PyList_GetItem(others, place));
        fine = headers != NULL;
        if (fine && (code = hand_over(client, known[doors[place]], &content, headers)))
            break;
    }
    link_unlock(link);
    return fine ? Py_BuildValue("(ni)", place, code) : NULL;
}

static PyObject *writer_failure(PyObject *object, PyObject *ignored) {
    (void)ignored;
    int code;
    const char *topic;
    if (!link_failed(((Writer *)object)->link, &code, &topic))
        return Py_NewRef(Py_None);
    return Py_BuildValue("(si)", topic, code);
}

static PyMethodDef writer_methods[] = {
    {"produce", writer_produce, METH_VARARGS, produce_doc},
    {"stamp", writer_stamp, METH_VARARGS, stamp_doc},
    {"forward", writer_forward, METH_VARARGS, forward_doc},
    {"failure", writer_failure, METH_NOARGS, "failure() -> (topic, code) of the first record that was given up, or None."},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot writer_slots[] = {
    {Py_tp_doc, "Writes with the producer that this thread made last."},
    {Py_tp_new, writer_new},
    {Py_tp_dealloc, writer_dealloc},
    {Py_tp_methods, writer_methods},
    {0, NULL},
};
PyType_Spec writer_spec = {"connectors.native._native.Writer", sizeof(Writer), 0, Py_TPFLAGS_DEFAULT, writer_slots};
