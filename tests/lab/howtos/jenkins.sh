#!/bin/sh
# Like Jenkins by hand: a JDK below /opt in the alternatives, a war file, its own unit, a private certificate authority.
set -eu
apt-get -q update
apt-get -qy --no-install-recommends install systemd-sysv ca-certificates libcap2-bin git openssl cron logrotate adduser
mkdir -p /opt/jdk-21/bin /opt/jdk-21/lib /opt/jdk-21/conf
for program in java javac jar; do
    printf '#!/bin/sh\necho "%s 21"\n' "$program" >"/opt/jdk-21/bin/$program"
    chmod 755 "/opt/jdk-21/bin/$program"
    update-alternatives --install "/usr/bin/$program" "$program" "/opt/jdk-21/bin/$program" 2100
done
setcap cap_net_bind_service=+ep /opt/jdk-21/bin/java
ln -s jdk-21 /opt/jdk
printf 'JAVA_HOME=/opt/jdk\n' >>/etc/environment
printf '/opt/jdk/lib\n' >/etc/ld.so.conf.d/jdk.conf
cp "$(find /usr/lib -name 'libz.so.1.*' | head -n 1)" /opt/jdk-21/lib/libjvm.so.21
ldconfig

adduser --system --group --home /var/lib/jenkins --shell /bin/bash jenkins
mkdir -p /usr/share/java-own /var/lib/jenkins/jobs/build/builds/1 /var/lib/jenkins/secrets /var/cache/jenkins/war
printf 'war\n' >/usr/share/java-own/jenkins.war
printf '<project/>\n' >/var/lib/jenkins/jobs/build/config.xml
printf 'log\n' >/var/lib/jenkins/jobs/build/builds/1/log
ln -s 1 /var/lib/jenkins/jobs/build/builds/lastSuccessfulBuild
printf 'key\n' >/var/lib/jenkins/secrets/master.key
chown -R jenkins:jenkins /var/lib/jenkins /var/cache/jenkins
chmod 700 /var/lib/jenkins/secrets
chmod 600 /var/lib/jenkins/secrets/master.key
cat >/etc/systemd/system/jenkins.service <<'TEXT'
[Service]
User=jenkins
EnvironmentFile=/etc/default/jenkins
ExecStart=/opt/jdk/bin/java -jar /usr/share/java-own/jenkins.war
StateDirectory=jenkins
[Install]
WantedBy=multi-user.target
TEXT
printf 'JENKINS_PORT=80\n' >/etc/default/jenkins
mkdir -p /etc/systemd/system/jenkins.service.d
printf '[Service]\nLimitNOFILE=8192\n' >/etc/systemd/system/jenkins.service.d/limits.conf
systemctl enable jenkins.service
printf 'jenkins soft nofile 8192\n' >/etc/security/limits.d/jenkins.conf
openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=Own -keyout /root/own-ca.key -out /usr/local/share/ca-certificates/own.crt 2>/dev/null
update-ca-certificates
printf '0 2 * * * jenkins /usr/local/bin/clean-workspaces\n' >/etc/cron.d/jenkins
printf '#!/bin/sh\nexit 0\n' >/usr/local/bin/clean-workspaces
chmod 755 /usr/local/bin/clean-workspaces
git config --system init.defaultBranch main
