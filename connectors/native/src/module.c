/* The module: what it holds, and how its parts are found. */
#include "module.h"

#include <string.h>

PyObject *heap_new(PyTypeObject *type) {
    return PyType_GenericAlloc(type, 0);
}

void heap_free(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_Free(self);
    Py_DECREF(type);
}

PyDoc_STRVAR(bind_doc, "bind(path)\n\nResolve librdkafka's functions through a library that is loaded already.");

static PyObject *bind_to(PyObject *module, PyObject *arguments) {
    (void)module;
    const char *path;
    if (!PyArg_ParseTuple(arguments, "s", &path))
        return NULL;
    const char *missing = kafka_bind(path);
    if (missing) {
        memset(&kafka, 0, sizeof kafka);
        return PyErr_Format(PyExc_OSError, "could not find %s", missing);
    }
    return PyLong_FromLong(kafka.version());
}

PyDoc_STRVAR(make_doc, "make_batch(topic, messages) -> Batch\n\n"
                       "Of (partition, offset, time_ms, key, value, headers); header names are bytes,\n"
                       "or all headers are bytes as on the wire.");

PyDoc_STRVAR(sweep_doc, "sweep(tables, numbers, shares, counts, rows, sums, found)\n\n"
                        "Add what people tell about the population to the sums; see flows/model/kernel.py.");

static PyMethodDef functions[] = {
    {"bind", bind_to, METH_VARARGS, bind_doc},
    {"make_batch", batch_make, METH_VARARGS, make_doc},
    {"sweep", sweep_call, METH_VARARGS, sweep_doc},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_native", "Batches between librdkafka and Python.", -1, functions, NULL, NULL, NULL, NULL,
};

static PyObject *add_type(PyObject *module, const char *name, PyType_Spec *spec) {
    PyObject *type = PyType_FromSpec(spec);
    if (type && PyModule_AddObjectRef(module, name, type))
        Py_CLEAR(type);
    return type; /* kept for ever: the module is never unloaded */
}

__attribute__((visibility("default"))) PyMODINIT_FUNC PyInit__native(void) {
    PyObject *module = PyModule_Create(&definition);
    const struct {
        const char *name;
        PyType_Spec *spec;
        PyTypeObject **type;
    } types[] = {
        {"Batch", &batch_spec, &batch_type}, {"Bodies", &bodies_spec, &bodies_type}, {"Column", &column_spec, &column_type},
        {"Found", &found_spec, &found_type}, {"Ids", &ids_spec, NULL},               {"Reader", &reader_spec, NULL},
        {"Scanner", &scanner_spec, &scanner_type}, {"Writer", &writer_spec, NULL},
    };
    PyObject *salted = module ? PyUnicode_FromString("airside") : NULL;
    if (!salted)
        Py_CLEAR(module);
    else
        word_seed = (uint64_t)PyObject_Hash(salted);
    Py_XDECREF(salted);
    for (size_t n = 0; module && n < sizeof types / sizeof *types; n++) {
        PyObject *type = add_type(module, types[n].name, types[n].spec);
        if (types[n].type)
            *types[n].type = (PyTypeObject *)type;
        if (!type)
            Py_CLEAR(module);
    }
    return module;
}
