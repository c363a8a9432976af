/* One part of every message of a batch, as a sequence: a cell is made when somebody asks for it, the
 * whole once when somebody goes through it. So what nobody looks at costs nothing. */
#include "module.h"

#include <string.h>

PyTypeObject *column_type;

PyObject *column_new(PyObject *owner, const ColumnKind *kind, int which, size_t size) {
    Column *self = (Column *)heap_new(column_type);
    if (self) {
        self->owner = Py_NewRef(owner);
        self->kind = kind;
        self->which = which;
        self->size = (Py_ssize_t)size;
    }
    return (PyObject *)self;
}

static void column_dealloc(PyObject *object) {
    Column *self = (Column *)object;
    Py_XDECREF(self->owner);
    Py_XDECREF(self->list);
    Py_XDECREF(self->changed);
    heap_free(object);
}

/* What was put at a place, borrowed; NULL without an exception when nothing was. */
static PyObject *changed_at(const Column *self, Py_ssize_t place) {
    PyObject *number = self->changed ? PyLong_FromSsize_t(place) : NULL;
    PyObject *found = number ? PyDict_GetItemWithError(self->changed, number) : NULL;
    Py_XDECREF(number);
    return found;
}

static PyObject *cell_at(const Column *self, Py_ssize_t place) {
    if (self->list)
        return Py_XNewRef(PyList_GetItem(self->list, place));
    PyObject *changed = changed_at(self, place);
    if (changed || PyErr_Occurred())
        return Py_XNewRef(changed);
    return self->kind->cell(self->owner, self->which, (size_t)place);
}

bool column_span(PyObject *object, Py_ssize_t place, Span *span) {
    const Column *self = (Column *)object;
    PyObject *put = self->list ? PyList_GetItem(self->list, place) : changed_at(self, place);
    if (PyErr_Occurred())
        return false;
    if (put)
        return bytes_of(put, span);
    *span = self->kind->span(self->owner, self->which, (size_t)place);
    return true;
}

bool bytes_of(PyObject *item, Span *span) {
    span->at = NULL;
    span->size = -1;
    if (item == Py_None)
        return true;
    if (PyUnicode_Check(item))
        return (span->at = PyUnicode_AsUTF8AndSize(item, &span->size)) != NULL;
    return PyBytes_AsStringAndSize(item, (char **)(uintptr_t)&span->at, &span->size) == 0;
}

static PyObject *list_of(Column *self) { /* borrowed; made at the first time */
    if (self->list)
        return self->list;
    PyObject *list = PyList_New(self->size);
    for (Py_ssize_t n = 0; list && n < self->size; n++) {
        PyObject *cell = self->kind->cell(self->owner, self->which, (size_t)n);
        if (!cell || PyList_SetItem(list, n, cell))
            Py_CLEAR(list);
    }
    Py_ssize_t at = 0;
    PyObject *place, *cell;
    while (list && self->changed && PyDict_Next(self->changed, &at, &place, &cell))
        PyList_SetItem(list, PyLong_AsSsize_t(place), Py_NewRef(cell));
    if (list)
        Py_CLEAR(self->changed);
    return self->list = list;
}

static Py_ssize_t column_length(PyObject *self) { return ((Column *)self)->size; }

static bool place_of(const Column *self, PyObject *key, Py_ssize_t *place) {
    *place = PyNumber_AsSsize_t(key, PyExc_IndexError);
    if (*place == -1 && PyErr_Occurred())
        return false;
    if (*place < 0)
        *place += self->size;
    if (*place >= 0 && *place < self->size)
        return true;
    PyErr_SetString(PyExc_IndexError, "no such message");
    return false;
}

static PyObject *column_get(PyObject *object, PyObject *key) {
    Column *self = (Column *)object;
    Py_ssize_t place;
    if (!PyIndex_Check(key)) { /* a slice */
        PyObject *list = list_of(self);
        return list ? PyObject_GetItem(list, key) : NULL;
    }
    return place_of(self, key, &place) ? cell_at(self, place) : NULL;
}

static PyObject *column_item(PyObject *object, Py_ssize_t place) {
    if (place >= 0 && place < ((Column *)object)->size)
        return cell_at((Column *)object, place);
    PyErr_SetString(PyExc_IndexError, "no such message");
    return NULL;
}

static int column_set(PyObject *object, PyObject *key, PyObject *value) {
    Column *self = (Column *)object;
    Py_ssize_t place;
    if (!value || self->kind->numbers) {
        PyErr_SetString(PyExc_TypeError, "this cannot be changed");
        return -1;
    }
    if (!place_of(self, key, &place))
        return -1;
    self->put = true;
    if (self->list)
        return PyList_SetItem(self->list, place, Py_NewRef(value));
    if (!self->changed && !(self->changed = PyDict_New()))
        return -1;
    PyObject *number = PyLong_FromSsize_t(place);
    int wrong = number ? PyDict_SetItem(self->changed, number, value) : -1;
    Py_XDECREF(number);
    return wrong;
}

static PyObject *column_iter(PyObject *object) {
    PyObject *list = list_of((Column *)object);
    return list ? PyObject_GetIter(list) : NULL;
}

static PyObject *column_compare(PyObject *object, PyObject *other, int how) {
    PyObject *mine = list_of((Column *)object), *theirs = NULL, *result = NULL;
    if (mine && PyObject_TypeCheck(other, column_type))
        theirs = list_of((Column *)other);
    else if (mine)
        theirs = other;
    if (mine && theirs)
        result = PyObject_RichCompare(mine, theirs, how);
    return result;
}

/* A column that travels to another process is a list there. */
static PyObject *column_reduce(PyObject *object, PyObject *ignored) {
    (void)ignored;
    PyObject *list = list_of((Column *)object);
    return list ? Py_BuildValue("(O(O))", &PyList_Type, list) : NULL;
}

/* Numbers as they stand in the library's memory, which is never changed while a batch lives. */
static int column_buffer(PyObject *object, Py_buffer *view, int flags) {
    static char formats[] = "q\0i";
    Column *self = (Column *)object;
    Numbers numbers;
    view->obj = NULL;
    if (!self->kind->numbers || flags & PyBUF_WRITABLE || !(flags & PyBUF_STRIDES) || !(flags & PyBUF_FORMAT)) {
        PyErr_SetString(PyExc_BufferError, "no numbers that can be seen this way");
        return -1;
    }
    self->kind->numbers(self->owner, self->which, &numbers);
    self->stride = numbers.stride;
    view->buf = (void *)(uintptr_t)numbers.at;
    view->obj = Py_NewRef(object);
    view->itemsize = numbers.bytes;
    view->len = self->size * numbers.bytes;
    view->readonly = 1;
    view->ndim = 1;
    view->format = numbers.bytes == 8 ? formats : formats + 2;
    view->shape = &self->size;
    view->strides = &self->stride;
    view->suboffsets = NULL;
    view->internal = NULL;
    return 0;
}

static PyMethodDef column_methods[] = {
    {"__reduce__", column_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot column_slots[] = {
    {Py_tp_doc, "One part of every message of a batch, made when somebody asks."},
    {Py_tp_dealloc, column_dealloc},
    {Py_tp_methods, column_methods},
    {Py_tp_iter, column_iter},
    {Py_tp_richcompare, column_compare},
    {Py_tp_hash, PyObject_HashNotImplemented},
    {Py_sq_length, column_length},
    {Py_sq_item, column_item},
    {Py_mp_length, column_length},
    {Py_mp_subscript, column_get},
    {Py_mp_ass_subscript, column_set},
    {Py_bf_getbuffer, column_buffer},
    {0, NULL},
};
PyType_Spec column_spec = {"connectors.native._native.Column", sizeof(Column), 0,
                           Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, column_slots};
