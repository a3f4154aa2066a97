// A few tokens through Gemma on a CPU: model/gemma.py and model/attention.py as one loop of machine code.
//
// Each weight is read once a step, which is what decoding costs; all else is not to wait. Threads share out the rows of
// each matrix, and the heads, and meet when these are done: before anybody reads what all have written, and so that
// nobody writes it anew while another still reads. What is small, norms and the residual stream, each thread does for
// itself. Between the matrices all is float32. Letters as in gemma.py: B texts, D width, H query heads, G key-value
// heads, K head size, F hidden, V vocabulary; R tokens are read at once.
//
// Compiled with WEIGHT, of the matrices, and CACHED, of keys and values: float, BFloat16, for weights int8_t, too.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

using std::int64_t;
using Floats = std::vector<float>;

struct Matrix {  // rows × columns, row by row
    const void *weights;
    const void *scales;  // BFloat16 (rows), of 8-bit weights
    int64_t rows, columns;
};

struct Layer {
    const float *before_attention, *of_queries, *of_keys, *after_attention, *before_mlp, *after_mlp;  // 1 + norm weights
    Matrix q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj;
    void *keys, *values;  // (B, G, capacity, K)
    int64_t kind;         // of Places
};

struct Model {
    int64_t layers, width, heads, groups, head_dim, hidden;
    float eps, scale, attention_softcap, final_softcap;  // a soft-cap of 0 is none
    const float *norm;
    Matrix head;
};

struct Places {  // what all layers of a kind share
    const float *frequencies;    // (K/2) of the rotation
    const int64_t *first, *own;  // (R) of what a token sees in a layer's memory, the first place and the last, its own
    int64_t capacity;
};

struct Tokens {
    const float *embedded;              // (R, D)
    const int64_t *texts, *positions;   // (R) in 0 … B - 1; in the text
    const int64_t *asked_for;           // (A) the tokens whose logits are wanted
    int64_t count, asked, kinds;        // R, A, of Places
};

struct BFloat16 {
    uint16_t bits;

    operator float() const {
        const uint32_t wide = uint32_t(bits) << 16;
        float value;
        std::memcpy(&value, &wide, sizeof value);
        return value;
    }

    void operator=(float value) {  // the nearest, of two the even one
        uint32_t wide;
        std::memcpy(&wide, &value, sizeof wide);
        bits = uint16_t((wide + 0x7fff + (wide >> 16 & 1)) >> 16);
    }
};

// Ask memory for the row after the next one, in time.
template <class Weight> void fetch_ahead(const Weight *row, int64_t columns) {
    const char *ahead = reinterpret_cast<const char *>(row + 2 * columns);
    for (std::size_t byte = 0; byte < columns * sizeof(Weight); byte += 64) __builtin_prefetch(ahead + byte);
}

// R vectors that the rows of a matrix are multiplied with, some at a time, as a row is the dearer to read.
template <class Weight> class Vectors {
  public:
    Vectors(const Floats &x, int64_t count) : values(x), count(count), columns(int64_t(x.size()) / count) {}

    // use(index, product) for each of the vectors.
    template <class Use> void times(const Matrix &matrix, int64_t row, Use use) const {
        const Weight *weights = static_cast<const Weight *>(matrix.weights) + row * columns;
        fetch_ahead(weights, columns);
        int64_t index = 0;
        for (; index + 4 <= count; index += 4) some<4>(weights, index, use);
        for (; index < count; index++) some<1>(weights, index, use);
    }

  private:
    template <int N, class Use> void some(const Weight *weights, int64_t index, Use use) const {
        const float *x = values.data() + index * columns;
        float sums[N] = {};
        for (int64_t k = 0; k < columns; k++)
            for (int i = 0; i < N; i++) sums[i] += float(weights[k]) * x[i * columns + k];
        for (int i = 0; i < N; i++) use(index + i, sums[i]);
    }

    const Floats &values;
    const int64_t count, columns;
};

// For 8-bit weights whole numbers of 16 bits: x = unit · whole, to within half a unit. Their sums are exact.
template <> class Vectors<int8_t> {
  public:
    Vectors(const Floats &x, int64_t count)
        : count(count), columns(int64_t(x.size()) / count), whole(x.size()), units(count) {
        for (int64_t index = 0; index < count; index++) {
            const float *values = x.data() + index * columns;
            float largest = 0, nothing = 0;  // or NaN, where a number is not finite: then so is each product
            for (int64_t k = 0; k < columns; k++) {
                largest = std::max(largest, std::fabs(values[k]));
                nothing += 0 * values[k];
            }
            units[index] = largest / LARGEST + nothing;
            if (nothing != 0) continue;
            const float inverse = largest > 0 ? LARGEST / largest : 0;
            for (int64_t k = 0; k < columns; k++) {
                const float value = values[k] * inverse;
                whole[index * columns + k] = int16_t(value + std::copysign(0.5f, value));
            }
        }
    }

    template <class Use> void times(const Matrix &matrix, int64_t row, Use use) const {
        const int8_t *weights = static_cast<const int8_t *>(matrix.weights) + row * columns;
        const float scale = static_cast<const BFloat16 *>(matrix.scales)[row];
        fetch_ahead(weights, columns);
        int64_t index = 0;
        for (; index + 4 <= count; index += 4) some<4>(weights, scale, index, use);
        for (; index < count; index++) some<1>(weights, scale, index, use);
    }

  private:
    template <int N, class Use> void some(const int8_t *weights, float scale, int64_t index, Use use) const {
        const int16_t *x = whole.data() + index * columns;
        float sums[N] = {};
        for (int64_t start = 0; start < columns; start += STRETCH) {
            int32_t exact[N] = {};
            for (int64_t k = start; k < std::min(start + STRETCH, columns); k++)
                for (int i = 0; i < N; i++) exact[i] += int16_t(weights[k]) * x[i * columns + k];
            for (int i = 0; i < N; i++) sums[i] += float(exact[i]);
        }
        for (int i = 0; i < N; i++) use(index + i, sums[i] * scale * units[index + i]);
    }

    static constexpr float LARGEST = 32767;
    static constexpr int64_t STRETCH = 512;  // so many products of 127 and LARGEST fit into 32 bits
    const int64_t count, columns;
    std::vector<int16_t> whole;
    Floats units;
};

// Where threads wait for each other. Who waits long lets others have the core.
class Meeting {
  public:
    explicit Meeting(int size) : size(size) {}

    void arrive() {
        const int now = round.load();
        if (waiting.fetch_add(1) + 1 == size) {
            waiting = 0;
            round = now + 1;
            return;
        }
        for (int looks = 0; round.load() == now; looks++)
            if (looks > 2000) std::this_thread::yield();
    }

  private:
    const int size;
    std::atomic<int> waiting{0}, round{0};
};

// x / rms(x) · factor
void normalize(float *x, const float *factor, int64_t size, float eps) {
    float squares = 0;
    for (int64_t k = 0; k < size; k++) squares += x[k] * x[k];
    const float scale = 1 / std::sqrt(squares / float(size) + eps);
    for (int64_t k = 0; k < size; k++) x[k] *= scale * factor[k];
}

// 0.5 x (1 + tanh(u)) = x / (1 + exp(-2u)), u = √(2/π) (x + 0.044715 x³)
float gelu(float x) { return x / (1 + std::exp(-1.5957691216f * (x + 0.044715f * x * x * x))); }

float capped(float x, float cap) { return cap > 0 ? cap * std::tanh(x / cap) : x; }

template <class Weight, class Cached> class Step {
  public:
    Step(const Model &model, const Layer *layers, const Places *places, const Tokens &tokens, float *logits, int threads)
        : model(model), layers(layers), places(places), tokens(tokens), logits(logits), threads(threads),
          count(tokens.count), size(model.head_dim), heads_each(model.heads + 2 * model.groups), meeting(threads),
          cosines(tokens.kinds * count * size / 2), sines(cosines.size()), heads(count * heads_each * size),
          seen(count * model.heads * size), hidden(count * model.hidden), update(count * model.width) {
        std::size_t place = 0;
        for (int64_t kind = 0; kind < tokens.kinds; kind++)
            for (int64_t token = 0; token < count; token++)
                for (int64_t k = 0; k < size / 2; k++, place++) {
                    const float angle = float(tokens.positions[token]) * places[kind].frequencies[k];
                    cosines[place] = std::cos(angle), sines[place] = std::sin(angle);
                }
    }

    // What one of the threads does.
    void run(int thread) {
        Floats x(tokens.embedded, tokens.embedded + count * model.width);
        for (const Layer *layer = layers; layer < layers + model.layers; layer++) {
            attend(*layer, x, thread);
            add_update(x, layer->after_attention);
            feed_forward(*layer, x, thread);
            add_update(x, layer->after_mlp);
        }
        Floats last;
        for (int64_t index = 0; index < tokens.asked; index++) {
            const auto start = x.begin() + tokens.asked_for[index] * model.width;
            last.insert(last.end(), start, start + model.width);
        }
        const Floats normal = normalized(last, model.norm);
        const Vectors<Weight> vectors(normal, tokens.asked);
        const auto [begin, end] = share(model.head.rows, thread);
        for (int64_t n = begin; n < end; n++)
            vectors.times(model.head, n, [&](int64_t index, float product) {
                logits[index * model.head.rows + n] = capped(product, model.final_softcap);
            });
    }

  private:
    // update = o_proj(softmax(q · k) · v)
    void attend(const Layer &layer, const Floats &x, int thread) {
        multiply({&layer.q_proj, &layer.k_proj, &layer.v_proj}, normalized(x, layer.before_attention), heads, thread);
        meeting.arrive();
        const auto [first_turned, last_turned] = share(count * (model.heads + model.groups), thread);
        for (int64_t index = first_turned; index < last_turned; index++)
            turn_and_remember(layer, index / (model.heads + model.groups), index % (model.heads + model.groups));
        meeting.arrive();
        const auto [begin, end] = share(count * model.heads, thread);
        for (int64_t index = begin; index < end; index++) look(layer, index / model.heads, index % model.heads);
        meeting.arrive();
        multiply({&layer.o_proj}, seen, update, thread);
        meeting.arrive();
    }

    // update = down(gelu(gate(x)) · up(x))
    void feed_forward(const Layer &layer, const Floats &x, int thread) {
        const Floats normal = normalized(x, layer.before_mlp);
        const Vectors<Weight> vectors(normal, count);
        const auto [begin, end] = share(model.hidden, thread);
        for (int64_t n = begin; n < end; n++) {
            const auto product = [&](int64_t token) -> float & { return hidden[token * model.hidden + n]; };
            vectors.times(layer.gate_proj, n, [&](int64_t token, float gate) { product(token) = gelu(gate); });
            vectors.times(layer.up_proj, n, [&](int64_t token, float up) { product(token) *= up; });
        }
        meeting.arrive();
        multiply({&layer.down_proj}, hidden, update, thread);
        meeting.arrive();
    }

    // This thread's part of (R, columns) → (R, rows of all matrices).
    void multiply(std::initializer_list<const Matrix *> matrices, const Floats &x, Floats &out, int thread) const {
        const Vectors<Weight> vectors(x, count);
        const int64_t rows = int64_t(out.size()) / count;
        const auto [begin, end] = share(rows, thread);
        int64_t above = 0;
        for (const Matrix *matrix : matrices) {
            for (int64_t n = std::max(begin, above); n < std::min(end, above + matrix->rows); n++)
                vectors.times(*matrix, n - above, [&](int64_t token, float product) { out[token * rows + n] = product; });
            above += matrix->rows;
        }
    }

    // Norm and rotation of a query or a key; a key and its value go to their place in the layer's memory.
    void turn_and_remember(const Layer &layer, int64_t token, int64_t head) {
        const int64_t half = size / 2, group = head - model.heads;
        float *x = heads.data() + (token * heads_each + head) * size;
        if (layer.of_keys) normalize(x, group < 0 ? layer.of_queries : layer.of_keys, size, model.eps);
        const float *cosine = cosines.data() + (layer.kind * count + token) * half;
        const float *sine = sines.data() + (layer.kind * count + token) * half;
        for (int64_t k = 0; k < half; k++) {
            const float left = x[k], right = x[k + half];
            x[k] = left * cosine[k] - right * sine[k];
            x[k + half] = right * cosine[k] + left * sine[k];
        }
        if (group < 0) return;
        Cached *key = remembered(layer.keys, layer, token, group, places[layer.kind].own[token]);
        Cached *value = remembered(layer.values, layer, token, group, places[layer.kind].own[token]);
        for (int64_t k = 0; k < size; k++) key[k] = x[k], value[k] = x[model.groups * size + k];
    }

    // seen = softmax(q · k) · v, of one head
    void look(const Layer &layer, int64_t token, int64_t head) {
        const int64_t first = places[layer.kind].first[token], last = places[layer.kind].own[token];
        const int64_t group = head / (model.heads / model.groups);
        const float *query = heads.data() + (token * heads_each + head) * size;
        Floats weights(last - first + 1);
        for (int64_t place = first; place <= last; place++) {
            const Cached *key = remembered(layer.keys, layer, token, group, place);
            float score = 0;
            for (int64_t k = 0; k < size; k++) score += query[k] * float(key[k]);
            weights[place - first] = capped(score * model.scale, model.attention_softcap);
        }
        const float largest = *std::max_element(weights.begin(), weights.end());
        float sum = 0;
        for (float &weight : weights) sum += weight = std::exp(weight - largest);
        float *out = seen.data() + (token * model.heads + head) * size;
        std::fill(out, out + size, 0.0f);
        for (int64_t place = first; place <= last; place++) {
            const Cached *value = remembered(layer.values, layer, token, group, place);
            const float weight = weights[place - first] / sum;
            for (int64_t k = 0; k < size; k++) out[k] += weight * float(value[k]);
        }
    }

    Cached *remembered(void *memory, const Layer &layer, int64_t token, int64_t group, int64_t place) const {
        const int64_t text_and_group = tokens.texts[token] * model.groups + group;
        return static_cast<Cached *>(memory) + (text_and_group * places[layer.kind].capacity + place) * size;
    }

    void add_update(Floats &x, const float *factor) const {
        const Floats normal = normalized(update, factor);
        for (std::size_t k = 0; k < x.size(); k++) x[k] += normal[k];
    }

    Floats normalized(Floats x, const float *factor) const {
        for (std::size_t start = 0; start < x.size(); start += model.width)
            normalize(x.data() + start, factor, model.width, model.eps);
        return x;
    }

    std::pair<int64_t, int64_t> share(int64_t all, int thread) const {
        return {all * thread / threads, all * (thread + 1) / threads};
    }

    const Model &model;
    const Layer *layers;
    const Places *places;
    const Tokens &tokens;
    float *logits;  // (A, V)
    const int threads;
    const int64_t count, size, heads_each;
    Meeting meeting;
    Floats cosines, sines;  // (kinds, R, K/2)
    Floats heads;           // (R, H + 2G, K): queries, keys, values
    Floats seen;            // (R, H, K)
    Floats hidden;          // (R, F)
    Floats update;          // (R, D), before its norm
};

// Returns 0, or 1 where so many threads are not to be had, and nothing is done.
extern "C" int read_tokens(const Model *model, const Layer *layers, const Places *places, const Tokens *tokens,
                           float *logits, int threads) {
    Step<WEIGHT, CACHED> step(*model, layers, places, *tokens, logits, threads);
    std::atomic<int> all_there{0};  // 1 when they are, -1 when they never will be
    std::vector<std::thread> others;
    const auto work = [&step, &all_there](int thread) {
        while (all_there == 0) std::this_thread::yield();
        if (all_there > 0) step.run(thread);
    };
    try {
        for (int thread = 1; thread < threads; thread++) others.emplace_back(work, thread);
        all_there = 1;
        step.run(0);
    } catch (const std::system_error &) {
        all_there = -1;
    }
    for (std::thread &other : others) other.join();
    return all_there < 0;
}
