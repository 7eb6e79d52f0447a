// The same by sipws.hpp.
#include <sipws.hpp>

#include <iostream>

int main()
{
    sipws::config config;
    config.set("listen[0].url", "ws://127.0.0.1:0/").set_message_handler({});
    sipws::server server(config);
    server.start();
    std::cout << server.local_addresses().at(0) << std::endl;
    server.stop();
}
