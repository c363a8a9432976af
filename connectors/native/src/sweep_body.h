/* What a sweep of the delivery-time model does with people, a few at a time; included once for each kind of processor,
 * by a file that defines SWEEP, a name, and LANES, how many doubles a vector has. Most bins of a person are empty, so
 * all products are those of a sparse table with a dense one. What comes out for a person depends on nobody beside: each
 * has sums of its own, in the order of the bins. Likelihoods are added up in double precision; exponentials of what is
 * left after the greatest is taken away are single, as in flows/model/posterior.py, which is the reference. */
#include "sweep_math.h"

#define GROUP 32 /* people that are looked at together */
#define WINDOWS (2 * GROUP)

typedef struct {
    double times;
    int64_t row; /* of the dense table */
} Entry;

typedef struct {
    int ends[WINDOWS + BINS + 2]; /* of each sparse row, and 0 before the first */
    Entry entries[WINDOWS * BINS + GROUP];
} Sparse;

/* Tables with rows that are a multiple of a vector. */
typedef struct {
    double silence[LEVELS][BINS][WIDE], answer[LEVELS][BINS][WIDE]; /* a logarithm, and a probability */
    double share[LEVELS][WIDE], level[LEVELS];
    double curve[BINS][WIDE], active[BINS][WIDE], stated[HOURS + 1][WIDE], shape_share[WIDE];
    double follows[COMMONS], does_not[COMMONS]; /* by how much each share of the first shape is likelier */
} Wide;

/* Sums over all people of a call. */
typedef struct {
    double sends[LEVELS][BINS + 1][WIDE]; /* and last the weights alone */
    double seen[BINS][WIDE], active[BINS][WIDE], preference[HOURS + 1][WIDE];
    double activity[BINS], views[VIEWS], commons[COMMONS], sent, answered;
} Totals;

/* A few people; a person has one window, or two where past and recent are looked at apart. */
typedef struct {
    int people, windows, first[GROUP + 1], stated[GROUP];
    Sparse sent, answered, activity, turned; /* turned: by bin, and last everybody once */
    double answers[WINDOWS];
    double atoms[LEVELS][WINDOWS][WIDE], told[WINDOWS][WIDE], seen[WINDOWS][WIDE];
    double weight[LEVELS][GROUP][WIDE], by_shape[GROUP][WIDE];
} Group;

typedef struct {
    Wide wide;
    Totals totals;
    Group group;
} Room;

/* What outcomes say of a person: of each shape, and of the levels inside it. */
typedef struct {
    float level[CELLS], total[WIDE];
    double shape[WIDE];
} Evidence;

/* --- sparse tables ------------------------------------------------------------------------------ */

/* What is not zero of a row, behind what is there; gives its sum. */
INLINE double add_row(Sparse *sparse, int row, const double *values) {
    enum { STEP = 8 };
    int end = sparse->ends[row];
    double sum = 0.0;
    for (int first = 0; first < BINS; first += STEP) {
        int some = 0;
        for (int bin = first; bin < first + STEP; bin++)
            some |= values[bin] != 0.0;
        for (int bin = first; some && bin < first + STEP; bin++) {
            sparse->entries[end] = (Entry){values[bin], bin};
            end += values[bin] != 0.0; /* never past the last: a row has as much room as bins */
            sum += values[bin];
        }
    }
    sparse->ends[row + 1] = end;
    return sum;
}

/* A sparse row times a dense table, beside a number. */
INLINE void multiply(const Sparse *sparse, int row, const double (*dense)[WIDE], double beside, double *out) {
    Lanes sum[PARTS];
    UNROLL for (int part = 0; part < PARTS; part++)
        sum[part] = (Lanes){0} + beside;
    for (int n = sparse->ends[row]; n < sparse->ends[row + 1]; n++) {
        const double *from = dense[sparse->entries[n].row];
        double times = sparse->entries[n].times;
        UNROLL for (int part = 0; part < PARTS; part++)
            sum[part] += times * part_of(from, part);
    }
    UNROLL for (int part = 0; part < PARTS; part++)
        ((Lanes *)out)[part] = sum[part];
}

/* From windows by bin to bins by person. */
INLINE void turn(const Group *group, const Sparse *sparse, Sparse *turned) {
    int place[BINS + 1] = {0}, end = sparse->ends[group->windows];
    for (int n = 0; n < end; n++)
        place[sparse->entries[n].row + 1]++;
    for (int bin = 0; bin < BINS; bin++)
        place[bin + 1] += place[bin];
    memcpy(turned->ends, place, sizeof place);
    for (int person = 0; person < group->people; person++) {
        for (int n = sparse->ends[group->first[person]]; n < sparse->ends[group->first[person + 1]]; n++)
            turned->entries[place[sparse->entries[n].row]++] = (Entry){sparse->entries[n].times, person};
        turned->entries[end + person] = (Entry){1.0, person};
    }
    turned->ends[BINS + 1] = end + group->people;
}

INLINE void multiply_bins(const Sparse *turned, const double (*dense)[WIDE], int bins, double (*out)[WIDE]) {
    for (int bin = 0; bin < bins; bin++)
        if (turned->ends[bin] < turned->ends[bin + 1]) {
            double sum[WIDE];
            multiply(turned, bin, dense, 0.0, sum);
            for (int j = 0; j < WIDE; j++)
                out[bin][j] += sum[j];
        }
}

/* --- people ------------------------------------------------------------------------------------- */

/* The counts of one window, or of both together where the second is not NULL. */
INLINE double add_counts(Sparse *sparse, int window, const float *a, const float *b) {
    double values[BINS];
    for (int bin = 0; bin < BINS; bin++)
        values[bin] = (double)a[bin];
    if (b)
        for (int bin = 0; bin < BINS; bin++)
            values[bin] += (double)b[bin];
    return add_row(sparse, window, values);
}

INLINE void add_window(Group *group, Totals *totals, const float *const *a, const float *const *b) {
    int window = group->windows++;
    totals->sent += add_counts(&group->sent, window, a[0], b ? b[0] : 0);
    group->answers[window] = add_counts(&group->answered, window, a[1], b ? b[1] : 0);
    totals->answered += group->answers[window];
    add_counts(&group->activity, window, a[2], b ? b[2] : 0);
}

/* Whether the recent window is full (1), and there is a past beside it that it is compared with (2). */
INLINE int windows_of(const float *past, const float *recent, double window) {
    double sums[LANES] = {0};
    int some = 0;
    for (int bin = 0; bin < BINS; bin++)
        some |= past[bin] != 0.0f;
    for (int bin = 0; bin < BINS; bin += LANES)
        for (int n = 0; n < LANES; n++)
            sums[n] += (double)recent[bin + n];
    for (int n = 1; n < LANES; n++)
        sums[0] += sums[n];
    return sums[0] >= window ? 1 + some : 0;
}

INLINE void take_people(Group *group, Totals *totals, const SweepCounts *counts, const int64_t *rows, int size,
                        double window, double *found) {
    group->people = size;
    group->windows = 0;
    for (int person = 0; person < size; person++) {
        int64_t at = rows[person] * BINS;
        const float *past[] = {counts->sent + at, counts->answered + at, counts->activity + at};
        const float *recent[] = {counts->recent_sent + at, counts->recent_answered + at, counts->recent_activity + at};
        int hour = counts->preference[rows[person]], windows = windows_of(past[0], recent[0], window);
        found[person * FOUND + FOUND - 1] = windows;
        group->stated[person] = hour >= 0 && hour < HOURS ? hour : HOURS;
        group->first[person] = group->windows;
        add_window(group, totals, past, windows > 1 ? NULL : recent);
        if (windows > 1)
            add_window(group, totals, recent, NULL);
    }
    group->first[size] = group->windows;
}

/* Log likelihood of the outcomes of each window under each atom, and what answers and activity say of shapes. */
INLINE void weigh_windows(Group *group, const Wide *wide) {
    for (int level = 0; level < LEVELS; level++)
        for (int window = 0; window < group->windows; window++)
            multiply(&group->sent, window, wide->silence[level], wide->level[level] * group->answers[window],
                     group->atoms[level][window]);
    for (int window = 0; window < group->windows; window++) {
        multiply(&group->answered, window, wide->curve, 0.0, group->told[window]);
        multiply(&group->activity, window, wide->active, 0.0, group->seen[window]);
    }
}

/* Evidence of one window, or of two together where the second is not NULL. */
INLINE void weigh(const Group *group, const Wide *wide, int one, int other, Evidence *evidence) {
    double top[WIDE];
    for (int part = 0; part < PARTS; part++) {
        Lanes atoms[LEVELS], most;
        UNROLL for (int level = 0; level < LEVELS; level++) {
            atoms[level] = part_of(wide->share[level], part) + part_of(group->atoms[level][one], part);
            if (other >= 0)
                atoms[level] += part_of(group->atoms[level][other], part);
            most = level ? greater(atoms[level], most) : atoms[level];
        }
        ((Lanes *)top)[part] = most;
        UNROLL for (int level = 0; level < LEVELS; level++)
            ((Halves *)evidence->level)[level * PARTS + part] = __builtin_convertvector(atoms[level] - most, Halves);
    }
    exponentials(evidence->level, CELLS / SINGLES);
    for (int part = 0; part < WIDE / SINGLES; part++) {
        const Singles *levels = (const Singles *)evidence->level + part;
        Singles sum = *levels;
        for (int level = 1; level < LEVELS; level++)
            sum += levels[level * (WIDE / SINGLES)];
        ((Singles *)evidence->total)[part] = sum;
    }
    for (int j = 0; j < WIDE; j++) {
        double told = group->told[one][j] + (other >= 0 ? group->told[other][j] : 0.0);
        evidence->shape[j] = logarithm((double)evidence->total[j]) + top[j] + told;
    }
}

/* Log likelihood of everything that is known of one window. */
INLINE double weigh_alone(const Group *group, const SweepTables *tables, const Wide *wide, int window, int stated) {
    Evidence evidence;
    double joint[WIDE], chance[WIDE];
    weigh(group, wide, window, -1, &evidence);
    for (int j = 0; j < WIDE; j++)
        joint[j] = evidence.shape[j] + tables->view * group->seen[window][j] + wide->stated[stated][j];
    return chances(joint, chance);
}

/* How well outcomes are foretold by each share that the first shape may have. */
INLINE void score_commons(const Wide *wide, double after, double before, Totals *totals) {
    double likelier[COMMONS];
    for (int n = 0; n < COMMONS; n++) {
        double follows = wide->follows[n], does_not = wide->does_not[n];
        likelier[n] = (follows * after + does_not * (1.0 - after)) / (follows * before + does_not * (1.0 - before));
    }
    for (int n = 0; n < COMMONS; n++)
        totals->commons[n] += logarithm(likelier[n]);
}

/* How well outcomes are foretold by activity, at each weight that it may have. */
INLINE void score_views(const SweepTables *tables, const double *seen, const double *before, const double *after,
                        Totals *totals) {
    double told[WIDE], was[WIDE], is[WIDE], foretold[VIEWS], most = greatest(seen), high = greatest(after);
    exponentials_of(before, 0.0, was);
    exponentials_of(after, high, is);
    for (int n = 0; n < VIEWS; n++) {
        for (int j = 0; j < WIDE; j++) {
            told[j] = tables->views[n] * (seen[j] - most);
            told[j] = told[j] > FAINT ? told[j] : FAINT;
        }
        exponentials_of(told, 0.0, told);
        foretold[n] = product(told, is) / product(told, was);
    }
    for (int n = 0; n < VIEWS; n++)
        totals->views[n] += high + logarithm(foretold[n]);
}

/* Weigh all atoms for one person, and judge activity and the first shape. Gives the log likelihood of all. */
INLINE double weigh_person(Group *group, const SweepTables *tables, const Wide *wide, int person, Totals *totals) {
    int one = group->first[person], other = group->first[person + 1] - one > 1 ? one + 1 : -1;
    const double *stated = wide->stated[group->stated[person]];
    double seen[WIDE], before[WIDE], after[WIDE], joint[WIDE], prior[WIDE], *by_shape = group->by_shape[person];
    float part[WIDE];
    Evidence evidence;
    weigh(group, wide, one, other, &evidence);
    for (int j = 0; j < WIDE; j++) {
        seen[j] = group->seen[one][j] + (other >= 0 ? group->seen[other][j] : 0.0);
        joint[j] = evidence.shape[j] + (tables->view * seen[j] + stated[j]);
    }
    double whole = chances(joint, by_shape);
    for (int j = 0; j < WIDE; j++)
        part[j] = (float)by_shape[j] / evidence.total[j];
    for (int level = 0; level < LEVELS; level++)
        for (int j = 0; j < WIDE; j++)
            group->weight[level][person][j] = (double)(evidence.level[level * WIDE + j] * part[j]);
    for (int j = 0; j < WIDE; j++) {
        before[j] = wide->shape_share[j] + stated[j];
        after[j] = evidence.shape[j] + stated[j];
        joint[j] = before[j] + tables->view * seen[j];
        totals->preference[group->stated[person]][j] += by_shape[j];
    }
    double foretold = chances(joint, prior);
    score_commons(wide, by_shape[0], prior[0], totals);
    if (group->activity.ends[group->first[person + 1]] > group->activity.ends[one])
        score_views(tables, seen, before, after, totals);
    else
        for (int n = 0; n < VIEWS; n++)
            totals->views[n] += whole - foretold;
    return whole;
}

/* Add what people weigh to the totals, bin by bin. */
INLINE void add_up(Group *group, Totals *totals) {
    turn(group, &group->sent, &group->turned);
    for (int level = 0; level < LEVELS; level++)
        multiply_bins(&group->turned, (const double(*)[WIDE])group->weight[level], BINS + 1, totals->sends[level]);
    turn(group, &group->answered, &group->turned);
    multiply_bins(&group->turned, (const double(*)[WIDE])group->by_shape, BINS, totals->seen);
    turn(group, &group->activity, &group->turned);
    multiply_bins(&group->turned, (const double(*)[WIDE])group->by_shape, BINS, totals->active);
    for (int n = 0; n < group->activity.ends[group->windows]; n++)
        totals->activity[group->activity.entries[n].row] += group->activity.entries[n].times;
}

/* --- a call ------------------------------------------------------------------------------------- */

/* How likely each atom answers in a bin; odds are those of its level times those of its shape. */
INLINE void widen_answers(const SweepTables *tables, int bin, Wide *wide) {
    double odds[WIDE] = {0};
    for (int j = 0; j < SHAPES; j++)
        odds[j] = exp(tables->curve[j * BINS + bin]);
    for (int level = 0; level < LEVELS; level++) {
        double times = exp(tables->levels[level]);
        for (int j = 0; j < WIDE; j++) {
            double of = times * odds[j];
            wide->silence[level][bin][j] = -logarithm(1.0 + of);
            wide->answer[level][bin][j] = of / (1.0 + of);
        }
    }
}

INLINE void widen(const SweepTables *tables, Wide *wide) {
    for (int bin = 0; bin < BINS; bin++)
        widen_answers(tables, bin, wide);
    for (int level = 0; level < LEVELS; level++) {
        wide->level[level] = tables->levels[level];
        widen_row(tables->shares + level * SHAPES, NOTHING, wide->share[level]);
    }
    widen_row(tables->share, NOTHING, wide->shape_share);
    for (int j = 0; j < WIDE; j++) {
        for (int bin = 0; bin < BINS; bin++) {
            wide->curve[bin][j] = j < SHAPES ? tables->curve[j * BINS + bin] : 0.0;
            wide->active[bin][j] = j < SHAPES ? tables->active[j * BINS + bin] : NOTHING;
        }
        for (int hour = 0; hour <= HOURS; hour++)
            wide->stated[hour][j] = j < SHAPES ? tables->stated[j * (HOURS + 1) + hour] : 0.0;
    }
}

INLINE void give(const Totals *totals, const Wide *wide, const SweepSums *sums) {
    for (int level = 0; level < LEVELS; level++)
        for (int j = 0; j < SHAPES; j++)
            sums->weight[level * SHAPES + j] += totals->sends[level][BINS][j];
    for (int bin = 0; bin < BINS; bin++) {
        double expected[WIDE] = {0}, grip[WIDE] = {0};
        for (int level = 0; level < LEVELS; level++)
            for (int j = 0; j < WIDE; j++) {
                double answer = wide->answer[level][bin][j], part = totals->sends[level][bin][j] * answer;
                expected[j] += part;
                grip[j] += part * (1.0 - answer);
            }
        for (int j = 0; j < SHAPES; j++) {
            sums->expected[j * BINS + bin] += expected[j];
            sums->grip[j * BINS + bin] += grip[j];
            sums->seen[j * BINS + bin] += totals->seen[bin][j];
            sums->active[j * BINS + bin] += totals->active[bin][j];
        }
        sums->activity_all[bin] += totals->activity[bin];
    }
    for (int j = 0; j < SHAPES; j++)
        for (int hour = 0; hour < HOURS; hour++)
            sums->preference[j * HOURS + hour] += totals->preference[hour][j];
    for (int n = 0; n < VIEWS; n++)
        sums->views[n] += totals->views[n];
    for (int n = 0; n < COMMONS; n++)
        sums->commons[n] += totals->commons[n];
    *sums->sent += totals->sent;
    *sums->answered += totals->answered;
}

_Static_assert(sizeof(Room) + LINE <= SWEEP_ROOM, "SWEEP_ROOM is too small");

void SWEEP(const SweepTables *tables, const SweepCounts *counts, const int64_t *rows, int64_t size,
           const SweepSums *sums, double *found, bool known, void *memory) {
    Room *room = (Room *)(void *)((char *)memory + LINE - (uintptr_t)memory % LINE);
    Group *group = &room->group;
    if (!known)
        widen(tables, &room->wide);
    for (int n = 0; n < COMMONS; n++) { /* the share of now is a number, and no table */
        room->wide.follows[n] = tables->commons[n] / tables->common;
        room->wide.does_not[n] = (1.0 - tables->commons[n]) / (1.0 - tables->common);
    }
    memset(&room->totals, 0, sizeof room->totals);
    group->sent.ends[0] = group->answered.ends[0] = group->activity.ends[0] = 0;
    for (int64_t start = 0; start < size; start += GROUP) {
        int some = size - start < GROUP ? (int)(size - start) : GROUP;
        take_people(group, &room->totals, counts, rows + start, some, tables->window, found);
        weigh_windows(group, &room->wide);
        for (int person = 0; person < some; person++, found += FOUND) {
            int one = group->first[person];
            found[0] = weigh_person(group, tables, &room->wide, person, &room->totals);
            found[1] = found[2] = 0.0;
            if (group->first[person + 1] - one > 1) {
                found[1] = weigh_alone(group, tables, &room->wide, one, group->stated[person]);
                found[2] = weigh_alone(group, tables, &room->wide, one + 1, HOURS);
            }
        }
        add_up(group, &room->totals);
    }
    give(&room->totals, &room->wide, sums);
}
