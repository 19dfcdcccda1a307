/* Representatives of regions, on a CPU. */
#include "space.h"

/* The block of one pixel. */
static Block block_of(const Batch *batch, int64_t pixel) {
    const int32_t y = (int32_t)(pixel / batch->width), x = (int32_t)(pixel % batch->width);
    Block block = {.top = y, .bottom = y + 1, .left = x, .right = x + 1};
    find_corners(batch, batch->y_low[y], batch->x_low[x], block.corner);
    return block;
}

/* Cells of both sides of a block on one of its lines: the left one, and the step to the right. */
static void mix_down(const Block *block, const float *table, int64_t n, float share, float *left,
                     float *step) {
    const float *a = table + block->corner[0] * n, *b = table + block->corner[1] * n;
    const float *c = table + block->corner[2] * n, *d = table + block->corner[3] * n;
    for (int64_t i = 0; i < n; i++) {
        const float near = a[i] + share * (c[i] - a[i]), far = b[i] + share * (d[i] - b[i]);
        left[i] = near;
        step[i] = far - near;
    }
}

/* A pixel's shares of the four cells, in double precision as its length has them. */
static void shares(const Batch *batch, int32_t y, int32_t x, double *weights) {
    const double down = batch->y_share[y], across = batch->x_share[x];
    weights[0] = (1 - down) * (1 - across);
    weights[1] = (1 - down) * across;
    weights[2] = down * (1 - across);
    weights[3] = down * across;
}

static inline int32_t smaller(int32_t a, int32_t b) { return a < b ? a : b; }

/* Pixels of a line from x on that are mixed at a time, and their shares, the last one repeated:
 * a sum that waits for itself would leave units idle.
 */
typedef struct {
    int32_t count;
    int64_t pixel;
    const int32_t *row;
    float share[ABREAST];
} Abreast;

static Abreast abreast(const Batch *batch, const Map *map, const Block *block, int32_t y,
                       int32_t x) {
    Abreast some = {.count = smaller(block->right - x, ABREAST)};
    some.pixel = (int64_t)y * batch->width + x;
    some.row = map->row + some.pixel;
    for (int32_t i = 0; i < ABREAST; i++)
        some.share[i] = batch->x_share[x + smaller(i, some.count - 1)];
    return some;
}

/* Vectors of the compiler's: comparisons are then one instruction for all lanes, NaN or not. Wider
 * than the processor's they would be taken apart through memory. 16 is a multiple of all widths. */
#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif
typedef float Lanes __attribute__((vector_size(4 * LANES), aligned(4)));
typedef int32_t Mask __attribute__((vector_size(4 * LANES), aligned(4)));

static inline Lanes larger_lanes(Lanes a, Lanes b) {
    const Mask is_larger = a > b;
    return (Lanes)((is_larger & (Mask)a) | (~is_larger & (Mask)b));
}

typedef float Half __attribute__((vector_size(2 * LANES), aligned(4)));
typedef int32_t HalfMask __attribute__((vector_size(2 * LANES), aligned(4)));

static inline float largest_lane(Lanes lanes) {
    const union {
        Lanes whole;
        Half half[2];
    } split = {lanes};
    const Half a = split.half[0], b = split.half[1];
    const HalfMask is_larger = a > b;
    const Half half = (Half)((is_larger & (HalfMask)a) | (~is_larger & (HalfMask)b));
    float most = half[0];
    for (int lane = 1; lane < LANES / 2; lane++) most = half[lane] > most ? half[lane] : most;
    return most;
}

/* Best of n scores of each pixel; n is a multiple of 16. */
static void best_scores(const float *left, const float *step, const float *share, int64_t n,
                        float *found) {
    Lanes p = {0}, q, r, s;
    p = q = r = s = p - INFINITY;
    for (int64_t i = 0; i < n; i += LANES) {
        const Lanes a = *(const Lanes *)(left + i), b = *(const Lanes *)(step + i);
        p = larger_lanes(a + share[0] * b, p);
        q = larger_lanes(a + share[1] * b, q);
        r = larger_lanes(a + share[2] * b, r);
        s = larger_lanes(a + share[3] * b, s);
    }
    found[0] = largest_lane(p);
    found[1] = largest_lane(q);
    found[2] = largest_lane(r);
    found[3] = largest_lane(s);
}

/* NaN is better than any number, so that it comes out again. */
static inline float better(float score) { return isnan(score) ? INFINITY : score; }

static void choose(int64_t pixel, float score, float *best, int64_t *chosen) {
    score = better(score);
    /* Between equal scores the first pixel in scan order wins. */
    if (score < *best || (score == *best && pixel > *chosen)) return;
    *best = score;
    *chosen = pixel;
}

/* Of each region a pixel whose bound is highest. */
static void begin_with_bounds(const Batch *batch, const Map *map, const float *bounds,
                              int64_t *chosen) {
    const int64_t pixels = (int64_t)batch->height * batch->width;
    for (int32_t row = map->first; row < map->last; row++) chosen[row] = -1;
    for (int64_t pixel = 0; pixel < pixels; pixel++) {
        const int32_t row = map->row[pixel];
        if (!inside(map, row)) continue;
        if (chosen[row] < 0 || bounds[pixel] > bounds[chosen[row]]) chosen[row] = pixel;
    }
}

/* Whether the bound of one of some pixels is not below the best score of its region; NaN is not. */
static inline int may_be_best(const Map *map, int64_t pixel, int32_t count, const float *bounds,
                              const float *best) {
    int may = 0;
    for (int64_t i = pixel; i < pixel + count; i++) {
        const int32_t row = map->row[i];
        if (inside(map, row)) may |= !(bounds[i] < best[row - map->first]);
    }
    return may;
}

/* What no score of a pixel is above, times its inverse length: a mix of what its cells' are not
 * above.
 *
 * `tops` has space for a number for each cell, `lines` for two lines of pixels. Rounding is that of
 * the largest score, whichever cells it is of. Where a score is no number, a bound is none either,
 * or infinite.
 */
static void bound_scores(const Batch *batch, const float *scores, int32_t prototypes, double *tops,
                         double *lines, const float *own, float *bounds) {
    const int64_t columns = batch->grid_width, cells = columns * batch->grid_height;
    const int64_t width = batch->width;
    float most = 0;
    for (int64_t cell = 0; cell < cells; cell++) {
        const float *of_cell = scores + cell * prototypes;
        Lanes top = {0}, bottom;
        top = bottom = top - INFINITY;
        for (int64_t i = 0; i < prototypes; i += LANES) {
            const Lanes next = *(const Lanes *)(of_cell + i);
            top = larger_lanes(next, top);
            bottom = larger_lanes(-next, bottom);
        }
        tops[cell] = largest_lane(top);
        const float far = largest_lane(larger_lanes(top, bottom));
        if (!(far <= most)) most = far;
    }
    const double slack = 2 * (double)NOISE * most;
    double *near = lines, *step = near + width;
    int32_t before = -1;
    for (int32_t y = 0; y < batch->height; y++, own += width, bounds += width) {
        const int32_t low = batch->y_low[y];
        const double *above = tops + low * columns;
        const double *below = above + (low + 1 < batch->grid_height ? columns : 0);
        for (int64_t x = 0; x < width && low != before; x++) {
            const int64_t cell = batch->x_low[x], next = cell + 1 < columns ? cell + 1 : cell;
            const double across = batch->x_share[x];
            near[x] = above[cell] + across * (above[next] - above[cell]) + slack;
            step[x] = below[cell] + across * (below[next] - below[cell]) + slack - near[x];
        }
        before = low;
        const double down = batch->y_share[y];
        for (int64_t x = 0; x < width; x++)
            bounds[x] = (float)((near[x] + down * step[x]) * own[x]);
    }
}

/* Distances of a run's pixels to the vector of their region; returns their sum. */
static inline double measure(const Batch *batch, const Space *space, int64_t line, const Run *run,
                             Line turned, double square, const float *own, int64_t chosen,
                             float *apart) {
    const int32_t width = batch->width;
    Doubles sum = {0};
    for (int32_t x = run->begin; x < run->end; x += ABREAST) {
        const Doubles scale = load(own + line, x, run->end, width);
        const Doubles mixed = turned.left + load_all(space->across + x) * turned.step;
        const Doubles left_over =
            scale * scale * load_all(space->squares + line + x) - 2 * scale * mixed + square;
        Floats found = __builtin_convertvector(left_over, Floats);
        for (int i = 0; i < ABREAST; i++) found[i] = found[i] < 0 ? 0 : sqrtf(found[i]);
        for (int i = 0; i < ABREAST && x + i < run->end; i++) {
            /* Rounding: mixed in two ways, the chosen pixel would differ from itself. */
            const int is_none = chosen == line + x + i || found[i] < NOISE;
            apart[line + x + i] = is_none ? 0 : found[i];
            sum[i] += apart[line + x + i];
        }
    }
    return add_up(sum);
}

/* Of each region the best pixel (int64, within its map), its vector, and the sum of distances.
 *
 * `scores` (last - first, grid_height, grid_width, prototypes) are those of the cells, a multiple
 * of 16. Inverse lengths and distances (pixels) are kept for the way back.
 */
int represent(const Batch *batch, const float *scores, int32_t prototypes, float *lengths,
              float *distances, int64_t *chosen, float *vectors, double *sums) {
    const int64_t dim = batch->dim, wide = dim > prototypes ? dim : prototypes;
    Space space;
    if (!reserve(batch, wide, &space)) return release(&space, 1);
    float *left = space.wide, *step = space.wide + wide;
    Patches *patches = &space.patches;
    Map map;
    while (take(batch, &map)) {
        const int32_t regions = map.last - map.first;
        float *best = malloc(sizeof(float) * (size_t)(regions + 1));
        if (!best) return release(&space, 1);
        float *own = lengths + map.pixels, *apart = distances + map.pixels;
        const int64_t before = (int64_t)batch->first * batch->grid_height * batch->grid_width;
        const float *of_cells = scores + (map.places - before) * prototypes;
        multiply_cells(batch, &map, space.products);
        find_lengths(batch, space.products, space.lines, space.squares, own);
        /* Branch and bound: few pixels may have the best score, and only theirs are mixed. */
        const float *bounds = apart;
        bound_scores(batch, of_cells, prototypes, space.products, space.lines, own, apart);
        begin_with_bounds(batch, &map, bounds, chosen);
        for (int32_t row = map.first; row < map.last; row++) {
            if (chosen[row] < 0) continue;
            const Block block = block_of(batch, chosen[row]);
            const Abreast one = abreast(batch, &map, &block, block.top, block.left);
            float found[ABREAST];
            mix_down(&block, of_cells, prototypes, batch->y_share[block.top], left, step);
            best_scores(left, step, one.share, prototypes, found);
            best[row - map.first] = better(found[0] * own[chosen[row]]);
        }
        for (Block block = {0}; advance(batch, &block);)
            for (int32_t y = block.top; y < block.bottom; y++) {
                int ready = 0;
                const int64_t line = (int64_t)y * batch->width;
                for (int32_t x = block.left; x < block.right; x += ABREAST) {
                    const int32_t count = smaller(block.right - x, ABREAST);
                    if (!may_be_best(&map, line + x, count, bounds, best)) continue;
                    const Abreast some = abreast(batch, &map, &block, y, x);
                    if (!ready)
                        mix_down(&block, of_cells, prototypes, batch->y_share[y], left, step);
                    ready = 1;
                    float found[ABREAST];
                    best_scores(left, step, some.share, prototypes, found);
                    for (int32_t i = 0; i < some.count; i++)
                        if (inside(&map, some.row[i]))
                            choose(some.pixel + i, found[i] * own[some.pixel + i],
                                   best + (some.row[i] - map.first), chosen + some.row[i]);
                }
            }
        free(best);
        for (int64_t row = map.first; row < map.last; row++) {
            if (chosen[row] < 0) continue;
            const Block block = block_of(batch, chosen[row]);
            mix_down(&block, map.cells, dim, batch->y_share[block.top], left, step);
            float *vector = vectors + row * dim;
            const float share = batch->x_share[block.left], scale = own[chosen[row]];
            for (int64_t i = 0; i < dim; i++) vector[i] = scale * (left[i] + share * step[i]);
        }
        for (Block block = {0}; advance(batch, &block); forget(&map, patches))
            for (int32_t y = block.top; y < block.bottom; y++) {
                const int64_t line = (int64_t)y * batch->width;
                Run run = {.end = block.left};
                while (next_run(&map, map.row + line, &block, &run)) {
                    const int32_t known = patches->count;
                    const int32_t patch = patch_of(&map, run.row, patches);
                    double *along = patches->along + 4 * patch;
                    if (patch == known)
                        patches->square[patch] =
                            multiply(&block, map.cells, vectors + run.row * dim, dim, along);
                    sums[run.row] +=
                        measure(batch, &space, line, &run, line_of(along, batch->y_share[y]),
                                patches->square[patch], own, chosen[run.row], apart);
                }
            }
    }
    return release(&space, 0);
}

/* Gradient of the cells from that of vectors (regions, dim) and of sums of distances (regions).
 *
 * `drawn` (regions, dim) and `pulls` (regions) are zeros, and left out where distances do not pull
 * at their representative. The gradient begins with zeros.
 */
int represent_backward(const Batch *batch, const float *lengths, const float *distances,
                       const int64_t *chosen, const float *vectors, const float *of_vectors,
                       const float *of_sums, float *drawn, float *pulls, float *of_cells) {
    const int64_t dim = batch->dim;
    const int32_t width = batch->width;
    Space space;
    if (!reserve(batch, dim, &space)) return release(&space, 1);
    float *given = space.wide;
    Patches *patches = &space.patches;
    Map map;
    while (take(batch, &map)) {
        const float *own = lengths + map.pixels, *apart = distances + map.pixels;
        float *found = of_cells + map.places * dim;
        for (Block block = {0}; advance(batch, &block); forget(&map, patches)) {
            Stencil stencil = {0};
            for (int32_t y = block.top; y < block.bottom; y++) {
                const int64_t line = (int64_t)y * batch->width;
                const double down = batch->y_share[y];
                Doubles moments[3] = {0};
                Run run = {.end = block.left};
                while (next_run(&map, map.row + line, &block, &run)) {
                    const float *vector = vectors + run.row * dim;
                    const int32_t known = patches->count;
                    const int32_t patch = patch_of(&map, run.row, patches);
                    if (patch == known) patches->square[patch] = dot(vector, vector, dim);
                    const double square = patches->square[patch], of_sum = of_sums[run.row];
                    Doubles all = {0}, far = {0}, pulled = {0};
                    for (int32_t x = run.begin; x < run.end; x += ABREAST) {
                        const Doubles across = load_all(space.across + x);
                        const Doubles scale = load(own + line, x, run.end, width);
                        const Doubles distance = load(apart + line, x, run.end, width);
                        const Doubles pull = only(distance > 0, of_sum / distance);
                        pulled += pull;
                        all -= pull * scale;
                        far -= pull * scale * across;
                        /* p of unit length gives c p - v; below epsilon, divided by it, p - v. */
                        const Doubles closeness = (1 + square - distance * distance) / 2;
                        const Doubles number =
                            pull * scale * scale * (1 + only(scale < 1 / EPSILON, closeness - 1));
                        moments[0] += number;
                        moments[1] += number * across;
                        moments[2] += number * across * across;
                    }
                    add_run(patches, patch, down, all, far);
                    if (pulls) pulls[run.row] += (float)add_up(pulled);
                }
                add_outer(&stencil, down, moments);
            }
            for (int32_t patch = 0; patch < patches->count; patch++) {
                const int64_t row = patches->row[patch];
                const double *total = patches->total + 4 * patch;
                const float *vector = vectors + row * dim;
                if (patch)
                    give(&block, total, vector, dim, found);
                else
                    apply_stencil(&block, &stencil, map.cells, total, vector, dim, found);
                if (drawn) draw(&block, total, map.cells, dim, drawn + row * dim);
            }
        }
        for (int64_t row = map.first; row < map.last; row++) {
            if (chosen[row] < 0) continue;
            const Block block = block_of(batch, chosen[row]);
            const float *vector = vectors + row * dim, *gradient = of_vectors + row * dim;
            const float scale = own[chosen[row]], pulled = drawn ? pulls[row] : 0;
            for (int64_t i = 0; i < dim; i++) given[i] = gradient[i] + pulled * vector[i];
            /* What is drawn has the sign of the pull. */
            if (drawn)
                for (int64_t i = 0; i < dim; i++) given[i] += drawn[row * dim + i];
            const float along = scale < 1 / EPSILON ? (float)dot(given, vector, dim) : 0;
            for (int64_t i = 0; i < dim; i++) given[i] = scale * (given[i] - along * vector[i]);
            double weights[4];
            shares(batch, block.top, block.left, weights);
            give(&block, weights, given, dim, found);
        }
    }
    return release(&space, 0);
}
