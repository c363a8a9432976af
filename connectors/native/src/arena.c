/* Messages are copied out of librdkafka at once: its own are then freed while they are warm, and
 * what stays is a few large pieces of memory that are used again and again. */
#include "arena.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define POOL 8
#define POOLED_BYTES_MAX ((size_t)32 << 20) /* a batch of giants is freed, not kept */

static pthread_mutex_t pool_mutex = PTHREAD_MUTEX_INITIALIZER;
static Arena *pool[POOL];
static int pooled;

static bool reserve(Buffer *buffer, size_t more) {
    if (more > SIZE_MAX / 4 - buffer->used)
        return false;
    size_t need = buffer->used + more, room = buffer->room ? buffer->room : 1 << 16;
    if (need <= buffer->room)
        return true;
    while (room < need)
        room *= 2;
    char *at = realloc(buffer->at, room);
    if (!at)
        return false;
    buffer->at = at;
    buffer->room = room;
    return true;
}

static size_t append(Buffer *buffer, const void *from, size_t size) { /* room was reserved */
    size_t at = buffer->used;
    if (size)
        memcpy(buffer->at + at, from, size);
    buffer->used = at + size;
    return at;
}

static void destroy(Arena *arena) {
    free(arena->topic);
    free(arena->bodies.at);
    free(arena->headers.at);
    free(arena->rows);
    free(arena);
}

Arena *arena_take(const char *topic) {
    pthread_mutex_lock(&pool_mutex);
    Arena *arena = pooled ? pool[--pooled] : NULL;
    pthread_mutex_unlock(&pool_mutex);
    if (!arena && !(arena = calloc(1, sizeof *arena)))
        return NULL;
    free(arena->topic);
    arena->topic = strdup(topic);
    if (!arena->topic) {
        destroy(arena);
        return NULL;
    }
    arena->size = arena->bodies.used = arena->headers.used = 0;
    return arena;
}

void arena_give(Arena *arena) {
    if (!arena)
        return;
    pthread_mutex_lock(&pool_mutex);
    bool kept = pooled < POOL && arena->bodies.room + arena->headers.room <= POOLED_BYTES_MAX;
    if (kept)
        pool[pooled++] = arena;
    pthread_mutex_unlock(&pool_mutex);
    if (!kept)
        destroy(arena);
}

static bool part(Buffer *bodies, const void *from, size_t size, size_t *at, int32_t *size_out) {
    *at = bodies->used;
    *size_out = -1;
    if (!from)
        return true;
    if (size > INT32_MAX || !reserve(bodies, size))
        return false;
    append(bodies, from, size);
    *size_out = (int32_t)size;
    return true;
}

Row *arena_row(Arena *arena, const void *key, size_t key_size, const void *value, size_t value_size) {
    if (arena->size == arena->room) {
        size_t room = arena->room ? arena->room * 2 : 1024;
        Row *rows = room > SIZE_MAX / sizeof *rows ? NULL : realloc(arena->rows, room * sizeof *rows);
        if (!rows)
            return NULL;
        arena->rows = rows;
        arena->room = room;
    }
    Row *row = &arena->rows[arena->size];
    *row = (Row){.headers = arena->headers.used, .header_count = -1};
    if (!part(&arena->bodies, value, value_size, &row->value, &row->value_size) ||
        !part(&arena->bodies, key, key_size, &row->key, &row->key_size))
        return NULL;
    arena->size++;
    return row;
}

bool arena_add_header(Arena *arena, const char *name, const void *value, size_t size) {
    size_t name_size = strlen(name);
    int32_t sizes[2] = {(int32_t)name_size, value ? (int32_t)size : -1};
    if (!value)
        size = 0;
    if (name_size > INT32_MAX || size > INT32_MAX || !reserve(&arena->headers, sizeof sizes + name_size + 1 + size))
        return false;
    char *at = arena->headers.at + arena->headers.used;
    memcpy(at, sizes, sizeof sizes);
    memcpy(at += sizeof sizes, name, name_size + 1);
    if (size)
        memcpy(at + name_size + 1, value, size);
    arena->headers.used += sizeof sizes + name_size + 1 + size;
    arena->rows[arena->size - 1].header_count++;
    return true;
}

size_t header_at(const Arena *arena, size_t at, HeaderView *view) {
    int32_t sizes[2];
    memcpy(sizes, arena->headers.at + at, sizeof sizes);
    view->name_size = sizes[0];
    view->value_size = sizes[1];
    view->name = arena->headers.at + at + sizeof sizes;
    view->value = sizes[1] < 0 ? NULL : view->name + sizes[0] + 1;
    return at + sizeof sizes + (size_t)sizes[0] + 1 + (size_t)(sizes[1] < 0 ? 0 : sizes[1]);
}

bool arena_add(Arena *arena, const rd_kafka_message_t *message) {
    int kind;
    Row *row = arena_row(arena, message->key, message->key_len, message->payload, message->len);
    if (!row)
        return false;
    row->offset = message->offset;
    row->partition = message->partition;
    row->time_ms = kafka.message_timestamp(message, &kind);
    rd_kafka_headers_t *headers;
    if (kafka.message_headers(message, &headers))
        return true; /* none, or unreadable: null, as the Python client has it */
    row->header_count = 0;
    const char *name;
    const void *value;
    size_t size;
    for (size_t n = 0; !kafka.header_get_all(headers, n, &name, &value, &size); n++)
        if (!arena_add_header(arena, name, value, size))
            return false;
    return true;
}
