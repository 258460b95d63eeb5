import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.security.Security;
import java.security.cert.X509Certificate;
import java.util.Arrays;
import java.util.Collection;
import java.util.List;
import java.util.Properties;
import javax.mail.Message;
import javax.mail.MessagingException;
import javax.mail.Part;
import javax.mail.Session;
import javax.mail.internet.InternetAddress;
import javax.mail.internet.MimeBodyPart;
import javax.mail.internet.MimeMessage;
import javax.mail.internet.MimeMultipart;
import org.bouncycastle.asn1.ASN1ObjectIdentifier;
import org.bouncycastle.cert.X509CertificateHolder;
import org.bouncycastle.cert.jcajce.JcaCertStore;
import org.bouncycastle.cms.CMSException;
import org.bouncycastle.cms.RecipientInformation;
import org.bouncycastle.cms.SignerInformation;
import org.bouncycastle.cms.jcajce.JcaSimpleSignerInfoVerifierBuilder;
import org.bouncycastle.cms.jcajce.JceCMSContentEncryptorBuilder;
import org.bouncycastle.cms.jcajce.JceKeyTransEnvelopedRecipient;
import org.bouncycastle.cms.jcajce.JceKeyTransRecipientId;
import org.bouncycastle.cms.jcajce.ZlibCompressor;
import org.bouncycastle.cms.jcajce.ZlibExpanderProvider;
import org.bouncycastle.mail.smime.SMIMECompressed;
import org.bouncycastle.mail.smime.SMIMECompressedGenerator;
import org.bouncycastle.mail.smime.SMIMEEnveloped;
import org.bouncycastle.mail.smime.SMIMEEnvelopedGenerator;
import org.bouncycastle.mail.smime.SMIMESigned;
import org.bouncycastle.mail.smime.SMIMESignedGenerator;
import org.bouncycastle.util.Selector;

/**
 * Bouncy Castle's S/MIME as a program, in the way of {@link BouncyCastle}:
 *
 * <pre>
 * version
 * sign        clear|opaque from to entity output signer
 * verify      ca mail output
 * encrypt     cipherOid pkcs1|digest mgfDigest labelHex from to entity output certificate
 * decrypt     key certificate mail output
 * compress    from to entity output
 * uncompress  mail output
 * </pre>
 *
 * Mails and entities are files. What comes out of a mail is the entity in it.
 */
public final class BouncyCastleMail {
    private static final Session SESSION = Session.getInstance(new Properties());

    private BouncyCastleMail() {}

    public static void main(String[] arguments) throws Exception {
        BouncyCastle.serve(BouncyCastleMail::answer);
    }

    private static String answer(String[] request) throws Exception {
        switch (request[0]) {
            case "version":
                return Security.getProvider(BouncyCastle.PROVIDER).getVersionStr();
            case "sign":
                sign(request);
                return "";
            case "verify":
                verify(request);
                return "";
            case "encrypt":
                encrypt(request);
                return "";
            case "decrypt":
                decrypt(request);
                return "";
            case "compress":
                MimeBodyPart compressed = new SMIMECompressedGenerator().generate(entity(request[3]), new ZlibCompressor());
                send(request[1], request[2], compressed, request[4]);
                return "";
            case "uncompress":
                byte[] content = new SMIMECompressed(mail(request[1])).getContent(new ZlibExpanderProvider());
                BouncyCastle.write(request[2], content);
                return "";
            default:
                throw new IllegalArgumentException(request[0]);
        }
    }

    private static void sign(String[] request) throws Exception {
        String[] signer = Arrays.copyOfRange(request, 6, request.length);
        SMIMESignedGenerator generator = new SMIMESignedGenerator();
        generator.addSignerInfoGenerator(BouncyCastle.signerInfoGenerator(signer));
        generator.addCertificates(new JcaCertStore(List.of(BouncyCastle.certificate(signer[6]))));
        MimeBodyPart entity = entity(request[4]);
        if (request[1].equals("opaque")) {
            send(request[2], request[3], generator.generateEncapsulated(entity), request[5]);
            return;
        }
        MimeMultipart multipart = generator.generate(entity);
        MimeMessage message = message(request[2], request[3]);
        message.setContent(multipart, multipart.getContentType());
        save(message, request[5]);
    }

    private static void verify(String[] request) throws Exception {
        X509Certificate ca = BouncyCastle.certificate(request[1]);
        MimeMessage message = mail(request[2]);
        boolean clear = message.isMimeType("multipart/signed");
        SMIMESigned signed = clear ? new SMIMESigned((MimeMultipart) message.getContent()) : new SMIMESigned(message);
        Collection<SignerInformation> signers = signed.getSignerInfos().getSigners();
        if (signers.isEmpty()) {
            throw new CMSException("there is no signer");
        }
        for (SignerInformation signer : signers) {
            @SuppressWarnings("unchecked") // SignerId is a Selector without its type
            Selector<X509CertificateHolder> id = signer.getSID();
            Collection<X509CertificateHolder> found = signed.getCertificates().getMatches(id);
            if (found.isEmpty()) {
                throw new CMSException("the signer's certificate is not in the mail");
            }
            X509CertificateHolder certificate = found.iterator().next();
            BouncyCastle.certificate(certificate.getEncoded()).verify(ca.getPublicKey());
            JcaSimpleSignerInfoVerifierBuilder verifier = new JcaSimpleSignerInfoVerifierBuilder();
            if (!signer.verify(verifier.setProvider(BouncyCastle.PROVIDER).build(certificate))) {
                throw new CMSException("the signature does not hold");
            }
        }
        ByteArrayOutputStream content = new ByteArrayOutputStream();
        signed.getContent().writeTo(content);
        BouncyCastle.write(request[3], content.toByteArray());
    }

    private static void encrypt(String[] request) throws Exception {
        SMIMEEnvelopedGenerator generator = new SMIMEEnvelopedGenerator();
        generator.addRecipientInfoGenerator(
            BouncyCastle.recipient(request, BouncyCastle.certificate(request[9])));
        JceCMSContentEncryptorBuilder builder = new JceCMSContentEncryptorBuilder(new ASN1ObjectIdentifier(request[1]));
        MimeBodyPart encrypted =
            generator.generate(entity(request[7]), builder.setProvider(BouncyCastle.PROVIDER).build());
        send(request[5], request[6], encrypted, request[8]);
    }

    private static void decrypt(String[] request) throws Exception {
        SMIMEEnveloped enveloped = new SMIMEEnveloped(mail(request[3]));
        RecipientInformation recipient =
            enveloped.getRecipientInfos().get(new JceKeyTransRecipientId(BouncyCastle.certificate(request[2])));
        if (recipient == null) {
            throw new CMSException("there is no recipient with this certificate");
        }
        JceKeyTransEnvelopedRecipient key = new JceKeyTransEnvelopedRecipient(BouncyCastle.privateKey(request[1]));
        BouncyCastle.write(request[4], recipient.getContent(key.setProvider(BouncyCastle.PROVIDER)));
    }

    private static MimeBodyPart entity(String file) throws Exception {
        return new MimeBodyPart(new ByteArrayInputStream(BouncyCastle.read(file)));
    }

    private static MimeMessage mail(String file) throws Exception {
        return new MimeMessage(SESSION, new ByteArrayInputStream(BouncyCastle.read(file)));
    }

    private static MimeMessage message(String from, String to) throws MessagingException {
        MimeMessage message = new MimeMessage(SESSION);
        message.setFrom(new InternetAddress(from));
        message.setRecipient(Message.RecipientType.TO, new InternetAddress(to));
        message.setSubject("Lunch");
        return message;
    }

    private static void send(String from, String to, Part part, String file) throws Exception {
        MimeMessage message = message(from, to);
        message.setContent(part.getContent(), part.getContentType());
        message.setDisposition(part.getDisposition());
        message.setHeader("Content-Transfer-Encoding", "base64");
        save(message, file);
    }

    private static void save(MimeMessage message, String file) throws Exception {
        message.saveChanges();
        ByteArrayOutputStream content = new ByteArrayOutputStream();
        message.writeTo(content);
        BouncyCastle.write(file, content.toByteArray());
    }
}
