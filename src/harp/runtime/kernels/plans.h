// A network from a file: structures as they lie in memory, with offsets from the file's beginning where pointers go.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "abi.h"
#include "cells.h"

struct Freed {
    void operator()(void *memory) const { std::free(memory); }
};
typedef std::unique_ptr<char, Freed> Memory;

namespace {

constexpr char MAGIC[8] = {'H', 'A', 'R', 'P', 'P', 'L', 'A', 'N'};
constexpr int64_t LINE = 64;  // bytes; sections of a plan and arenas begin where cache lines do

struct Head {
    char magic[8];
    uint64_t layout;  // of this engine: see `fingerprint`
    int64_t bytes;    // of the whole file
    int64_t network, pointers, count;  // where the Network is; where a list of so many places of pointers is
    int64_t cells;    // of a thread's arena
};

// FNV-1a of what lies where and which number stands for what, and of what kernels there are.
uint64_t fingerprint(const char *layout) {
    uint64_t hash = 14695981039346656037u;
    const auto add = [&hash](uint8_t byte) { hash = (hash ^ byte) * 1099511628211u; };
    for (const char *c = layout; *c; c++) add(uint8_t(*c));
    add(LANES), add(REGISTERS), add(sizeof(Cell));
    return hash;
}

// So many zeros from a cache line on; null where there is no memory.
Memory zeros(int64_t bytes) {
    const size_t size = size_t((bytes + LINE - 1) / LINE * LINE);
    char *made = static_cast<char *>(std::aligned_alloc(LINE, size ? size : LINE));
    if (made) std::memset(made, 0, size);
    return Memory(made);
}

}  // namespace

struct harp_network {
    Memory plan;
    const Network *network = nullptr;
    int64_t cells = 0;
    std::vector<Memory> arenas;
};

namespace {

const char *read_plan(const char *path, const char *layout, harp_network &made) {
    const std::unique_ptr<FILE, int (*)(FILE *)> file(std::fopen(path, "rb"), std::fclose);
    if (!file) return "there is no such file, or it may not be read";
    Head head;
    if (std::fread(&head, sizeof head, 1, file.get()) != 1 || std::memcmp(head.magic, MAGIC, sizeof MAGIC))
        return "the file is no plan; harp.deploy.save_plan writes one";
    if (head.layout != fingerprint(layout))
        return "the plan is of another build of the engine, or of another version of harp; write it anew for this one";
    if (std::fseek(file.get(), 0, SEEK_END) || std::ftell(file.get()) != head.bytes) return "the plan is cut short";
    const int64_t last = head.bytes - int64_t(sizeof(Network));
    if (head.network < 0 || head.network > last || head.pointers < 0 || head.count < 0 ||
        head.pointers > head.bytes - head.count * int64_t(sizeof(int64_t)) || head.cells < 0)
        return "the plan is damaged";
    made.plan = zeros(head.bytes);
    if (!made.plan) return "there is not enough memory";
    char *const base = made.plan.get();
    std::rewind(file.get());
    if (std::fread(base, 1, size_t(head.bytes), file.get()) != size_t(head.bytes)) return "the plan cannot be read";
    for (int64_t i = 0; i < head.count; i++) {
        int64_t place, target;
        std::memcpy(&place, base + head.pointers + i * sizeof place, sizeof place);
        if (place < 0 || place > head.bytes - int64_t(sizeof target)) return "the plan is damaged";
        std::memcpy(&target, base + place, sizeof target);
        if (target < 0 || target >= head.bytes) return "the plan is damaged";
        char *const pointer = base + target;
        std::memcpy(base + place, &pointer, sizeof pointer);
    }
    made.network = reinterpret_cast<const Network *>(base + head.network);
    made.cells = head.cells;
    return nullptr;
}

}  // namespace
