// The same through the C++ header.
#include <cstring>
#include <iostream>
#include <latentblend.hpp>

int main(int count, char **arguments) {
    try {
        latentblend::Model::load("no/such/place");
    } catch (const latentblend::Error &error) {
        std::cout << error.status_name() << ": " << error.what() << '\n';
    }
    return count == 2 && std::strcmp(arguments[1], latentblend::version_string()) == 0 ? 0 : 1;
}
