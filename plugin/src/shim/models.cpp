#include "models.h"

#include <cstdlib>
#include <filesystem>
#include <locale>
#include <sstream>
#include <vector>

#include "engine.h"
#include "failure.h"

namespace latentblend {

namespace fs = std::filesystem;

namespace {

#ifdef _WIN32
constexpr char kParting = ';';
constexpr char kHome[] = "USERPROFILE";
#else
constexpr char kParting = ':';
constexpr char kHome[] = "HOME";
#endif

constexpr double kIdleSeconds = 300.0;

std::string variable(const std::string &name) {
    const char *value = std::getenv(name.c_str());
    return value ? value : "";
}

bool of_name(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'; }

std::string expand(const std::string &written) {
    std::string path;
    size_t at = 0;
    if (written[0] == '~' && (written.size() == 1 || written[1] == '/' || written[1] == '\\')) {
        path = variable(kHome);
        at = 1;
    }
    while (at < written.size()) {
        if (written[at] != '$') {
            path += written[at++];
            continue;
        }
        const bool braced = at + 1 < written.size() && written[at + 1] == '{';
        const size_t begin = at + (braced ? 2 : 1);
        size_t end = begin;
        while (end < written.size() && of_name(written[end])) ++end;
        const bool closed = !braced || (end < written.size() && written[end] == '}');
        if (end == begin || !closed) {
            path += written[at++];
            continue;
        }
        const std::string name = written.substr(begin, end - begin);
        const std::string value = variable(name);
        if (value.empty())
            throw Failure{ofx::kOfxStatFailed, "Model '" + written + "': the environment variable " + name + " is not set"};
        path += value;
        at = end + (braced ? 1 : 0);
    }
    return path;
}

std::vector<fs::path> places() {
    std::vector<fs::path> found;
    std::string list = variable("LATENTBLEND_MODELS");
    while (!list.empty()) {
        const size_t end = list.find(kParting);
        if (end != 0) found.emplace_back(list.substr(0, end));
        list = end == std::string::npos ? std::string() : list.substr(end + 1);
    }
    found.push_back(fs::path(shim_folder()).parent_path() / "Resources" / "models");
#ifdef _WIN32
    const std::string data = variable("LOCALAPPDATA");
    if (!data.empty()) found.push_back(fs::path(data) / "latentblend" / "models");
#else
    const std::string data = variable("XDG_DATA_HOME"), home = variable(kHome);
    if (!data.empty()) found.push_back(fs::path(data) / "latentblend" / "models");
    else if (!home.empty()) found.push_back(fs::path(home) / ".local" / "share" / "latentblend" / "models");
    found.emplace_back("/usr/local/share/latentblend/models");
    found.emplace_back("/usr/share/latentblend/models");
#endif
    return found;
}

bool there(const fs::path &path) {
    std::error_code ignored;
    return fs::exists(path, ignored);
}

}  // namespace

std::string find_model(const std::string &written) {
    const size_t first = written.find_first_not_of(" \t\r\n");
    if (first == std::string::npos) return {};
    const size_t last = written.find_last_not_of(" \t\r\n");
    fs::path path = expand(written.substr(first, last - first + 1));
    // The one file of a folder that a file browser can show.
    if (path.filename() == "model_index.json") path = path.parent_path();
    std::vector<fs::path> tried;
    if (path.is_absolute()) tried.push_back(path);
    else
        for (const fs::path &place : places()) tried.push_back(place / path);
    std::string message = "Model '" + written + "' was not found. Tried:";
    for (const fs::path &place : tried) {
        if (there(place)) return place.string();
        message += " " + place.string() + ";";
    }
    message.back() = '.';
    throw Failure{ofx::kOfxStatFailed, message};
}

double idle_seconds() {
    std::istringstream text(variable("LATENTBLEND_OFX_IDLE_SECONDS"));
    // Hosts set locales in which a comma parts the fraction.
    text.imbue(std::locale::classic());
    double seconds = 0.0;
    // Infinity and what is no number are not read.
    return text >> seconds && text.eof() && seconds >= 0.0 ? seconds : kIdleSeconds;
}

}  // namespace latentblend
